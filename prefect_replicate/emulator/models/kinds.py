"""Quick models of every kind other than video, with schemas as Cog writes them.

`emulator/picture` and `emulator/language` are official models; the others run by version. Their
output follows from their input, so the same input with the same seed gives the same output.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any, cast

from prefect_replicate.emulator.artifacts import PictureFile, SoundFile
from prefect_replicate.emulator.models import cog
from prefect_replicate.emulator.models.model import Job, Model, Planner, Version, version_id
from prefect_replicate.emulator.models.studio import parse_ratio
from prefect_replicate.emulator.plans import LogLine, Plan, progress_logs
from prefect_replicate.emulator.scenes import Scene

_QUEUE = 0.05
_CREATED = 1_755_000_000.0
_DIMENSIONS = 32
_TOKEN = re.compile(r"\s*\S{1,6}")
_WORDS = (
    "light water stone river window garden morning quiet distant copper paper winter harbour "
    "signal thread mirror orchard lantern meadow engine silver cloud pattern slow bright"
)


def kinds() -> tuple[Model, ...]:
    """Return the models, one of each kind."""
    return (_picture(), _language(), _speech(), _embedding(), _separation(), _oddities())


def _picture() -> Model:
    ratios = ("1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21")
    fields = {
        "prompt": cog.text("Prompt for generated image", required=True),
        "aspect_ratio": cog.choice("Aspect ratio for the generated image", "1:1", *ratios),
        "num_outputs": cog.integer("Number of outputs to generate", 1, 1, 4),
        "output_format": cog.choice("Format of the output images", "webp", "png", "webp"),
        "seed": cog.seed(),
    }
    output = {"title": "Output", "type": "array", "items": dict(cog.URI)}
    about = "Text-to-image, up to four pictures at a time"
    return _model("picture", about, cog.openapi_schema(fields, output), _draw, is_official=True)


def _draw(job: Job) -> Plan:
    asked, first = job.input, _seed(job)
    ratio, run = parse_ratio(asked["aspect_ratio"]), 0.3 * job.factor
    count: int = asked["num_outputs"]
    scenes = (
        Scene(asked["prompt"], job.model, 0.0, first + number, ratio) for number in range(count)
    )
    return Plan(
        queue=_QUEUE * job.factor,
        run=run,
        output=[
            PictureFile(f"out-{number}.{asked['output_format']}", scene)
            for number, scene in enumerate(scenes)
        ],
        logs=progress_logs(run, 4, first),
        metrics={"image_output_count": count},
    )


def _language() -> Model:
    fields = {
        "prompt": cog.text("Prompt", required=True),
        "system_prompt": cog.text("System prompt", "You are a helpful assistant"),
        "max_tokens": cog.integer("The most tokens to generate", 512, 1, 4096),
        "temperature": cog.number("Higher is more random", 0.6, 0, 5),
        "top_p": cog.number("Share of likely tokens to choose from", 0.9, 0, 1),
        "stop_sequences": cog.nullable(
            cog.text("A comma-separated list of sequences to stop generation at")
        ),
        "seed": cog.nullable(cog.seed()),
    }
    output = {
        "title": "Output",
        "type": "array",
        "items": dict(cog.TEXT),
        "x-cog-array-type": "iterator",
        "x-cog-array-display": "concatenate",
    }
    about = "Answers a prompt, token by token"
    return _model("language", about, cog.openapi_schema(fields, output), _answer, is_official=True)


def _answer(job: Job) -> Plan:
    asked = job.input
    text = f"You asked: {asked['prompt']}\n\n{sentences(random.Random(_seed(job)))}"
    stops = [one for one in (asked.get("stop_sequences") or "").split(",") if one]
    text = text[: min((text.find(one) for one in stops if one in text), default=len(text))]
    tokens = _TOKEN.findall(text)[: asked["max_tokens"]]
    step = min(0.01, 1 / (len(tokens) + 1)) * job.factor
    read = len(f"{asked['system_prompt']} {asked['prompt']}".split())
    return Plan(
        queue=_QUEUE * job.factor,
        run=step * (len(tokens) + 1),
        output=tokens,
        arrivals=tuple(step * number for number in range(1, len(tokens) + 1)),
        metrics={
            "token_input_count": read,
            "token_output_count": len(tokens),
            "time_to_first_token": step,
        },
    )


def sentences(chance: random.Random) -> str:
    """Return a few meaningless sentences."""
    words = (chance.choices(_WORDS.split(), k=chance.randint(5, 9)) for _ in range(4))
    return " ".join(f"{' '.join(one).capitalize()}." for one in words)


def _speech() -> Model:
    voices = ("alto", "bass", "soprano", "tenor")
    fields = {
        "text": cog.text("Text to speak", required=True),
        "voice": cog.choice("Voice to speak with", "alto", *voices),
        "speed": cog.number("How fast to speak", 1.0, 0.5, 2),
    }
    schema = cog.openapi_schema(fields, {"title": "Output", **cog.URI})
    return _model("speech", "Text-to-speech, as a WAV of notes", schema, _speak)


def _speak(job: Job) -> Plan:
    words = len(job.input["text"].split())
    seconds = min(0.3 * max(words, 1) / job.input["speed"], 60.0)
    return Plan(
        queue=_QUEUE * job.factor,
        run=0.2 * job.factor,
        output=SoundFile("output.wav", seconds, job.seed),
        logs=(LogLine(0.0, f"Speaking {words} words: {seconds:.2f} s\n"),),
    )


def _embedding() -> Model:
    fields = {
        "text": cog.nullable(cog.text("A text to embed")),
        "texts": cog.array("Texts to embed, instead of a single one", cog.TEXT),
    }
    vector = {"type": "array", "items": {"type": "number"}}
    schema = cog.openapi_schema(fields, {"title": "Output", "type": "array", "items": vector})
    return _model("embedding", "A vector of length 1 for each text", schema, _embed)


def _embed(job: Job) -> Plan:
    text = job.input.get("text")
    texts: list[str] = job.input.get("texts") or ([] if text is None else [text])
    queue, run = _QUEUE * job.factor, 0.1 * job.factor
    if not texts:
        return Plan(queue, run, "failed", error="Neither text nor texts was given")
    return Plan(queue, run, output=[_vector(one) for one in texts])


def _vector(text: str) -> list[float]:
    chance = random.Random(text)
    parts = [chance.gauss(0, 1) for _ in range(_DIMENSIONS)]
    length = sum(part * part for part in parts) ** 0.5
    return [round(part / length, 6) for part in parts]


def _separation() -> Model:
    fields = {
        "audio": cog.file("Sound to take apart", required=True),
        "only_vocals": cog.flag("Leave the drums in the rest", False),
    }
    stems = {
        "title": "ModelOutput",
        "type": "object",
        "required": ["vocals", "other"],
        "properties": {
            "vocals": {"title": "Vocals", **cog.URI},
            "drums": {"title": "Drums", **cog.URI, "nullable": True},
            "other": {"title": "Other", **cog.URI},
        },
    }
    output = {"title": "Output", "$ref": "#/components/schemas/ModelOutput"}
    schema = cog.openapi_schema(fields, output, ModelOutput=stems)
    return _model("separation", "Takes a sound apart, into several files", schema, _separate)


def _separate(job: Job) -> Plan:
    run = 0.4 * job.factor
    sounds = {
        name: SoundFile(f"{name}.wav", 2.0, job.seed + number)
        for number, name in enumerate(("vocals", "drums", "other"))
    }
    drums = None if job.input["only_vocals"] else sounds["drums"]
    output = {**sounds, "drums": drums}
    return Plan(_QUEUE * job.factor, run, output=output, logs=progress_logs(run, 3, job.seed))


def _oddities() -> Model:
    fields = {
        "name": cog.text("The only input that must be given", required=True),
        "api_key": cog.nullable(cog.secret("What replies and this model's output don't show")),
        "note": cog.nullable(cog.text("A text, or null")),
        "amount": cog.nullable(cog.integer("An integer, or null", None, 0, 100)),
        "image": cog.nullable(cog.file("A file, or null")),
        "tags": cog.array("A list of texts", cog.TEXT),
        "files": cog.nullable(cog.array("A list of files, or null", cog.URI)),
        "size": cog.choice("One of a few integers", 512, 256, 512, 1024),
        "mode": cog.nullable(cog.choice("One of a few texts, or null", "fast", "fast", "best")),
        "model": cog.text("An input with the name of something else", "small"),
        "input": cog.text("Another one", ""),
    }
    schema = cog.openapi_schema(fields, {"title": "Output"})
    return _model("oddities", "Takes inputs of rare kinds and returns them", schema, _tell)


def _tell(job: Job) -> Plan:
    known = {
        name: "[REDACTED]" if name == "api_key" and value is not None else _shortened(value)
        for name, value in job.input.items()
    }
    return Plan(_QUEUE * job.factor, 0.1 * job.factor, output={"received": known})


def _shortened(value: Any) -> Any:
    if isinstance(value, list):
        return [_shortened(one) for one in cast("list[Any]", value)]
    if isinstance(value, str) and value.startswith("data:"):
        return f"{value.partition(',')[0]},..."
    return value


def _model(
    name: str,
    description: str,
    schema: Mapping[str, Any],
    planner: Planner,
    *,
    is_official: bool = False,
) -> Model:
    version = Version(version_id(f"emulator/{name}", 1), _CREATED, schema)
    return Model("emulator", name, description, (version,), planner, is_official)


def _seed(job: Job) -> int:
    seed = job.input.get("seed")
    return job.seed if seed is None else seed
