from __future__ import annotations

from daemon.catalogue.annotated import annotated, plain
from daemon.documents import Document

SPEC = {
    "name": "m",
    "licence": "yes: # no",
    "source": {"kind": "file", "path": "m/ü.onnx"},
    "input": {"preset": "clip", "mean": [0.1, 0.2, 0.3], "resize": {"rule": "shortest", "to": 256}},
    "output": {"name": "y", "dim": 3},
}


def test_what_is_written_reads_as_what_was_meant() -> None:
    for text in (annotated("A title.", SPEC), plain(SPEC)):
        document = Document("spec", text)
        assert (document.data, document.problems) == (SPEC, [])


def test_keys_that_may_have_to_be_corrected_are_explained() -> None:
    lines = annotated("A title.", SPEC).splitlines()

    assert lines[0] == "# A title."
    assert lines[lines.index("  preset: clip") - 1].startswith("  # keras-caffe, keras-tf")
    assert "#" not in plain(SPEC).replace("# no", "")


def test_a_title_stays_a_comment_whatever_is_in_it() -> None:
    text = annotated("made of we\nname: evil\x1b[31m\x85\u2028\udcff.onnx", SPEC)

    assert text.splitlines()[0] == "# made of we\\nname: evil\\x1b[31m\\u0085\\u2028\\xff.onnx"
    assert Document("spec", text).data == SPEC
