"""From files to an answer: read Parquet, query a database, join, embed, search, ask a model; without a network.

Try:
    python examples/cookbook.py                          # who hunts at night?
    python examples/cookbook.py "Who catches fish?"
    twingraph list                                       # the executions; `twingraph graph ID` draws one

The embedding counts words, and the model is a rehearsal that answers with the first note of its prompt. See
docs/cookbook.md.
"""

from __future__ import annotations

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
]
SIGHTINGS = [{"bird": 1, "place": "Aare"}, {"bird": 2, "place": "Emmental"}, {"bird": 2, "place": "Seeland"}]

read = FileReader(format="parquet", output="frame")
species = DatabaseQuery(connection="sqlite:///birds.db", read_only=True, output="frame")
join = DataTransform(output="records").group("bird", places="list(place)").join("species", on="bird")
describe = join.derive(text="name + ': ' + note + ' Seen: ' + join(places, ' and ') + '.'")
remember = VectorSearch(index="notes", location="vectors", operation="add")
recall = VectorSearch({"index": "notes", "location": "vectors", "top_k": 2})


@component
def embed(rows, width=256):
    vectors = [[0.0] * width for _ in rows]
    for vector, row in zip(vectors, rows, strict=True):
        for word in re.findall(r"[a-z]{4,}", row["text"].lower()):
            vector[zlib.crc32(word[:4].encode()) % width] += 1.0
    return {"vectors": vectors}


@pipeline
def ask(question, model, api_key):
    known = species(sql="SELECT id AS bird, name, note FROM species")
    birds = describe(data=read(path="sightings.parquet")["data"], species=known["rows"])["data"]
    kept = remember(vectors=embed(birds)["vectors"], ids=[each["name"] for each in birds], metadata=birds)
    asked = embed([{"text": question}])
    found = recall(embedding=asked["vectors"][0], parent_hashes=[asked, kept])
    notes = "\n".join(each["metadata"]["text"] for each in found["results"])
    llm = LLMPrompt(model="rehearsal", base_url=model, api_key=api_key)
    return llm(prompt="{question}\nSee:\n{notes}", question=question, notes=notes, parent_hash=found)["response"]


if __name__ == "__main__":
    database = sqlite3.connect("birds.db")
    with database:
        database.execute("CREATE TABLE IF NOT EXISTS species (id INTEGER PRIMARY KEY, name TEXT, note TEXT)")
        database.executemany("INSERT OR REPLACE INTO species VALUES (?, ?, ?)", SPECIES)
    database.close()
    FileWriter()(data=SIGHTINGS, path="sightings.parquet")
    with LanguageModel(lambda asked: asked.prompt.splitlines()[2]) as rehearsal:
        print(ask(" ".join(sys.argv[1:]) or "Who hunts at night?", rehearsal.url, rehearsal.key))
