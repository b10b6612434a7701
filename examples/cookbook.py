"""From files to an answer, without a network: read Parquet, query a database, join, embed, search, and ask a model.

Try:
    python examples/cookbook.py                                  # who hunts at night?
    python examples/cookbook.py "Who sleeps in the air?"
    twingraph list                                               # the executions; `twingraph graph ID` draws one

The embedding is a function of this file: it counts words. The language model is the library's rehearsal, which speaks
the protocol of a real one and has no model in it; here it answers with the first note that it is shown.
With a real one: `LLMPrompt(model="gpt-4o-mini")`, and its key in OPENAI_API_KEY.
"""

from __future__ import annotations

import math
import re
import sqlite3
import sys
import zlib

from twingraph import component, pipeline
from twingraph.components import DatabaseQuery, DataTransform, FileReader, FileWriter, LLMPrompt, VectorSearch
from twingraph.components.llm_server import LanguageModel

SPECIES = [
    (1, "kingfisher", "It dives from a branch into the river and catches small fish."),
    (2, "owl", "It hunts mice in the fields at night and hears them under the snow."),
    (3, "goose", "It flies south in autumn in a long wedge and grazes on meadows."),
    (4, "swift", "It sleeps in the air and lands only to breed under roofs."),
    (5, "dodo", "It walked the beaches of one island at night and by day, and is no more."),
]
SIGHTINGS = [
    {"bird": 1, "place": "Aare", "seen": 2},
    {"bird": 2, "place": "Emmental", "seen": 1},
    {"bird": 2, "place": "Seeland", "seen": 3},
    {"bird": 3, "place": "Seeland", "seen": 40},
    {"bird": 4, "place": "Bern", "seen": 25},
]
WIDTH = 256
SMALL = {"a", "and", "at", "by", "from", "in", "into", "is", "it", "of", "on", "one", "or", "the", "to", "who"}

write = FileWriter(format="parquet")
read = FileReader(format="parquet", output="frame")
species = DatabaseQuery(connection="sqlite:///birds.db", read_only=True, output="frame")
seen = (
    DataTransform(output="records")
    .group("bird", seen="sum(seen)", places="list(place)")
    .join("species", on="bird")
    .derive(text="name + ': ' + note", places="join(places, ' and ')")
    .sort("-seen")
)
remember = VectorSearch(index="notes", location="vectors", operation="add")
recall = VectorSearch({"index": "notes", "location": "vectors", "top_k": 2})


@component
def embed(texts):
    """A vector for each text, of length 1: how often words come up that are in the same drawer of `WIDTH`."""
    vectors = []
    for text in texts:
        counts = [0.0] * WIDTH
        for word in re.findall(r"[a-z]+", text.lower()):
            if word not in SMALL:
                counts[zlib.crc32(word[:4].encode()) % WIDTH] += 1.0
        length = math.hypot(*counts) or 1.0
        vectors.append([each / length for each in counts])
    return {"vectors": vectors}


@component
def notes(results):
    """What was found, as lines for the prompt."""
    return {"lines": "\n".join(f"- {each['metadata']['text']} Seen: {each['metadata']['places']}." for each in results)}


@pipeline
def ask(question, model, key):
    """Answer a question from what is known of the birds that were seen."""
    sightings = read(path="sightings.parquet")
    known = species(sql="SELECT id AS bird, name, note FROM species")
    birds = seen(data=sightings["data"], species=known["rows"])
    texts = [each["text"] for each in birds["data"]]
    remembered = remember(
        vectors=embed(texts)["vectors"], ids=[each["name"] for each in birds["data"]], metadata=birds["data"]
    )
    found = recall(embedding=embed([question])["vectors"][0], parent_hash=remembered["hash"])
    llm = LLMPrompt(model="rehearsal", base_url=model, api_key=key)
    answer = llm(
        prompt="{question}\nAnswer from these notes:\n{lines}",
        question=question,
        lines=notes(found["results"])["lines"],
    )
    return answer["response"]


def prepare():
    """The files that the pipeline reads."""
    with sqlite3.connect("birds.db") as database:
        database.execute("CREATE TABLE IF NOT EXISTS species (id INTEGER PRIMARY KEY, name TEXT, note TEXT)")
        database.executemany("INSERT OR REPLACE INTO species VALUES (?, ?, ?)", SPECIES)
    database.close()
    write(data=SIGHTINGS, path="sightings.parquet")


def first_note(asked):
    """What the rehearsal answers."""
    return asked.prompt.split("\n- ")[1].strip()


if __name__ == "__main__":
    prepare()
    with LanguageModel(first_note) as model:
        print(ask(" ".join(sys.argv[1:]) or "Who hunts at night?", model.url, model.key))
