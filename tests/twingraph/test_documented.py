"""What TwinGraph's users were told of it in the first place works as it was printed: these blocks are run literally."""

from __future__ import annotations

import inspect
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.twingraph.conftest import Heard
from twingraph import BaseComponent, Component, Pipeline, Workflow, component, pipeline
from twingraph.events import NodeRetried, NodeStarted
from twingraph.platforms.base import platform
from twingraph.registry import get_component

IMPORTS = {"component": component, "pipeline": pipeline}

COMPONENT = '''
from twingraph import component
from typing import NamedTuple

@component(
    platform='docker',  # 'local', 'docker', 'kubernetes', 'lambda', 'batch'
    docker_image='python:3.9',
    config={
        'memory': '2G',
        'cpu': '1.0',
        'timeout': 300
    }
)
def process_data(data: list, threshold: float = 0.5) -> NamedTuple:
    """Process input data with configurable threshold."""
    Output = namedtuple('Output', ['filtered', 'count'])
    filtered = [x for x in data if x > threshold]
    return Output(filtered=filtered, count=len(filtered))
'''

CONFIGURATIONS = {
    "docker": """
config={
    'memory': '4G',
    'cpu': '2.0',
    'gpu': False,
    'volumes': {'/data': '/container/data'},
    'network': 'bridge'
}
""",
    "kubernetes": """
config={
    'namespace': 'default',
    'resources': {
        'requests': {'cpu': '500m', 'memory': '1Gi'},
        'limits': {'cpu': '2000m', 'memory': '4Gi'}
    },
    'node_selector': {'node-type': 'compute'},
    'pull_policy': 'Always'
}
""",
    "lambda": """
config={
    'function_name': 'my-processor',
    'runtime': 'python3.9',
    'memory_size': 3008,
    'timeout': 900,
    'environment': {'ENV': 'production'},
    'layers': ['arn:aws:lambda:region:account:layer:name:version']
}
""",
    "batch": """
config={
    'job_definition': 'my-job-def',
    'job_queue': 'high-priority',
    'vcpus': 4,
    'memory': 16384,
    'gpu': 0,
    'array_size': 100,  # For array jobs
    'environment': {'PARALLELISM': '4'}
}
""",
}

PIPELINE = """
from twingraph import pipeline, component

@pipeline(
    name="data_processing_pipeline",
    schedule="0 */6 * * *",  # Every 6 hours
    max_parallel=10,
    error_handler='continue'
)
def process_pipeline():
    # Load data
    raw_data = load_data(source='s3://bucket/data.csv')
    
    # Process in parallel
    results = []
    for chunk in raw_data['outputs']['chunks']:
        result = process_chunk(
            data=chunk,
            parent_hash=raw_data['hash']
        )
        results.append(result)
    
    # Aggregate results
    final = aggregate_results(
        results=[r['outputs']['data'] for r in results],
        parent_hashes=[r['hash'] for r in results]
    )
    
    return final
"""  # noqa: W293 - as it was printed

CLASS = '''
from twingraph import BaseComponent

class CustomProcessor(BaseComponent):
    """Custom data processing component."""
    
    def __init__(self, config=None):
        super().__init__(config)
        self.threshold = config.get('threshold', 0.5)
    
    def validate_inputs(self, **kwargs):
        """Validate input parameters."""
        if 'data' not in kwargs:
            raise ValueError("Missing required input: data")
        
    def execute(self, data, **kwargs):
        """Process the data."""
        filtered = [x for x in data if x > self.threshold]
        return {
            'filtered': filtered,
            'count': len(filtered),
            'threshold': self.threshold
        }

# Register custom component
from twingraph.registry import register_component
register_component('custom_processor', CustomProcessor)
'''  # noqa: W293

RETRIES = """
@component(
    retry_policy={
        'max_attempts': 3,
        'backoff': 'exponential',
        'initial_delay': 1,
        'max_delay': 60,
        'exceptions': ['TransientError', 'TimeoutError']
    }
)
def flaky_operation(data):
    # Component with automatic retries
    pass
"""

HANDLERS = """
@pipeline(
    error_handler='custom',
    error_config={
        'handler': 'error_notification',
        'continue_on_error': True
    }
)
def fault_tolerant_pipeline():
    try:
        result = risky_operation()
    except Exception as e:
        result = fallback_operation()
    return result
"""

WORKFLOW = """
# Create workflow from code
from twingraph import Workflow

wf = Workflow(name='My Pipeline')
wf.add_component('load', load_data)
wf.add_component('process', process_data)
wf.connect('load', 'process')
"""


def run(block: str, **defined: Any) -> dict[str, Any]:
    """The names that a block defines; `defined` are those that it takes for granted."""
    names: dict[str, Any] = {"__name__": "a_program", **defined}
    exec(block, names)
    return names


@component
def load_data(source: str) -> dict[str, Any]:
    return {"chunks": [[1, 2], [3], []], "data": [0.2, 0.9], "source": source}


def test_the_first_component() -> None:
    made = run(COMPONENT)["process_data"]
    assert isinstance(made, Component)
    assert made.fn([0.1, 0.7, 0.9]) == ([0.7, 0.9], 2)
    assert (made.placement.platform, made.placement.image, made.placement.timeout) == ("docker", "python:3.9", 300)
    assert (made.__name__, made.__doc__) == ("process_data", "Process input data with configurable threshold.")
    assert list(inspect.signature(made).parameters) == ["data", "threshold"]


@pytest.mark.usefixtures("docker")
def test_the_first_component_runs_in_its_container(tmp_path: Path) -> None:
    # a text is what travels, so it is in a file; which image of Python it is does not matter, and this one is there
    file = tmp_path / "documented_component.py"
    file.write_text(COMPONENT.replace("python:3.9", "python:3.13-slim"), "utf-8")
    result = runpy.run_path(str(file))["process_data"]([0.1, 0.7, 0.9], threshold=0.8)
    assert result["outputs"] == {"filtered": [0.9], "count": 1}
    assert len(result["hash"]) == 64


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_configuration_of_a_platform(name: str) -> None:
    config = run(CONFIGURATIONS[name])["config"]
    made = component(platform=name, config=config)(load_data.fn)  # a key that is not known would be warned of
    assert made.placement.config == config
    assert set(config) <= platform(name).options


@pytest.mark.parametrize("failing", [False, True])
def test_the_pipeline(failing: bool, heard: Heard) -> None:
    @component
    def process_chunk(data: list[int]) -> dict[str, int]:
        if failing and not data:
            raise ValueError("an empty chunk")
        return {"data": sum(data)}

    @component
    def aggregate_results(results: list[int]) -> dict[str, int]:
        return {"total": sum(results)}

    defined: dict[str, Callable[..., Any]] = {"process_chunk": process_chunk, "aggregate_results": aggregate_results}
    made = run(PIPELINE, load_data=load_data, **defined)["process_pipeline"]
    assert isinstance(made, Pipeline)
    execution = made.run(listen=heard)
    if failing:
        assert "component 'process_chunk' (process_chunk#3) failed: an empty chunk" in str(execution.error)
    else:
        assert execution.result()["outputs"] == {"total": 6}
        parents = {each.node: len(each.parents) for each in heard.of(NodeStarted)}
        chunks = ["process_chunk", "process_chunk#2", "process_chunk#3"]
        assert parents == {"load_data": 0, **dict.fromkeys(chunks, 1), "aggregate_results": 3}


def test_the_class() -> None:
    made = run(CLASS)["CustomProcessor"]
    assert issubclass(made, BaseComponent)
    assert get_component("custom_processor") is made
    assert made()(data=[0.2, 0.9])["outputs"] == {"filtered": [0.9], "count": 1, "threshold": 0.5}
    assert made({"threshold": 0.1})(data=[0.2, 0.9])["count"] == 2
    with pytest.raises(ValueError, match="Missing required input: data"):
        made()(rows=[])
    named = Workflow("by name").add_component("one", "custom_processor", {"threshold": 0.8})
    assert named.run(data=[0.7, 0.9]).outputs == {"filtered": [0.9], "count": 1, "threshold": 0.8}


def test_the_retries(heard: Heard) -> None:
    made = run(RETRIES, **IMPORTS)["flaky_operation"]
    assert made([]).value is None
    assert [made.retry.wait(attempt) for attempt in (0, 1, 9)] == [1, 2, 60]
    left = [TimeoutError("slow"), type("TransientError", (Exception,), {})("once")]

    def flaky_operation(data: Any) -> Any:
        if left:
            raise left.pop()
        return data

    quick = component(retry_policy={**_policy(RETRIES), "initial_delay": 0})(flaky_operation)
    assert pipeline(name="again")(lambda: quick(3)).run(listen=heard).result().value == 3
    assert [each.error for each in heard.of(NodeRetried)] == ["TransientError: once", "TimeoutError: slow"]


def _policy(block: str) -> dict[str, Any]:
    told: dict[str, Any] = {}

    def take(**given: Any) -> Callable[[Any], Any]:
        told.update(given["retry_policy"])
        return lambda function: function

    run(block, component=take)
    return told


@pytest.mark.parametrize(("fails", "value"), [(True, "plan B"), (False, "plan A")])
def test_the_error_handlers(fails: bool, value: str) -> None:
    @component
    def risky_operation() -> str:
        if fails:
            raise ConnectionError("not today")
        return "plan A"

    @component
    def fallback_operation() -> str:
        return "plan B"

    defined = {"risky_operation": risky_operation, "fallback_operation": fallback_operation}
    assert run(HANDLERS, **IMPORTS, **defined)["fault_tolerant_pipeline"]().value == value


def test_the_workflow() -> None:
    process = run(COMPONENT)["process_data"]
    wf = run(WORKFLOW, load_data=load_data, process_data=component(process.fn))["wf"]
    assert wf.validate() == []
    assert wf.run({"source": "s3://bucket/data.csv", "threshold": 0.75}).outputs == {"filtered": [0.9], "count": 1}
