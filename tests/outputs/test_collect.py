import pytest

from prefect_replicate.outputs.found import collect_files

A = "https://replicate.delivery/a.mp4"
B = "https://replicate.delivery/b.png"
INLINE = "data:image/png;base64,AAAA"


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (A, [("", A)]),
        ([A, B], [("[0]", A), ("[1]", B)]),
        ({"video": {"url": A}}, [("video.url", A)]),
        (
            {"frames": [{"image": A}, {"image": B}]},
            [("frames[0].image", A), ("frames[1].image", B)],
        ),
        ([[A], [B]], [("[0][0]", A), ("[1][0]", B)]),
        ({"a b": A, "x.y": B}, [('["a b"]', A), ('["x.y"]', B)]),
        ({"video": A, "seed": 42, "ok": True, "note": None}, [("video", A)]),
        (INLINE, [("", INLINE)]),
        ("HTTP://127.0.0.1:1/a", [("", "HTTP://127.0.0.1:1/a")]),
        ([A, A], [("[0]", A), ("[1]", A)]),
    ],
)
def test_files_are_found_in_any_shape(output: object, found: list[tuple[str, str]]) -> None:
    assert collect_files(output) == found


@pytest.mark.parametrize(
    "output",
    [
        None,
        3.5,
        [],
        {},
        "A haiku about llamas",
        ["Here ", "is ", "a ", "link: https://replicate.delivery/a.mp4"],
        f"see {A} for more",
        "https://",
        "data: is what I need",
        "data:",
        "ftp://replicate.delivery/a.mp4",
    ],
)
def test_other_strings_are_text(output: object) -> None:
    assert collect_files(output) == []
