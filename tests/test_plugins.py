"""What of a plugin's file decides its runs."""

import pytest

from benchmark.plugins import from_file
from benchmark.sources import closure, code

METRIC = "def {name}(codes, rng):\n    return {{}}\n"

FILE = '''"""A model."""

from models import Model

# a constant
SIZE = 3
TEXT = """
# no comment

"""


class Mine(Model):
    """Does something.

    At length.
    """

    published = {"mnist": 1,
                 "dsprites": 2}

    def losses(self, x):  # here
        """Losses."""
        return SIZE
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A model.", "Another."),
        ("At length.\n", "At\n    more length.\n"),
        ('        """Losses."""\n', ""),
        ("# a constant", "# another\n\n# and one more"),
        ('"mnist": 1', '"mnist": 3'),
        ("\n\n\nclass", "\n\nclass"),
    ],
)
def test_what_decides_nothing_changes_no_fingerprint(old, new):
    assert old in FILE and code(FILE.replace(old, new)) == code(FILE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SIZE = 3", "SIZE = 4"),
        ("# no comment\n", ""),
        ("# no comment\n\n", "# no comment\n"),
        ("return SIZE", "return SIZE + 1"),
        ("x):", "x, y=1):"),
        ('"""Losses."""\n', '"""Losses."""; x = 1\n'),
    ],
)
def test_what_decides_something_does(old, new):
    assert old in FILE and code(FILE.replace(old, new)) != code(FILE)


@pytest.mark.parametrize("reading", ["self.published", 'getattr(self, "published")', "Mine.published", "published"])
def test_published_settings_count_where_the_code_reads_them(reading):
    reads = FILE.replace("return SIZE", f"return {reading}")
    assert code(reads.replace('"mnist": 1', '"mnist": 3')) != code(reads)


def test_a_body_of_a_docstring_alone_stays():
    assert code('class A:\n    """x."""\n') == 'class A:\n    """x."""'


def test_lines_are_those_that_python_counts():
    file = 'x = 1\f\n\f\n\f\ndef a():\n    return 1\n\ndef b():\n    """Says."""\n    return 2\n'
    assert "return 1" in code(file) and "Says" not in code(file)


def test_a_file_of_another_encoding_has_a_fingerprint(tmp_path):
    for name, content in {"latin": b"# coding: latin-1\nX = '\xe9'\n", "bom": b"\xef\xbb\xbfX = 1\n"}.items():
        (tmp_path / f"{name}.py").write_bytes(content + METRIC.format(name=name).encode())
        from_file(tmp_path / f"{name}.py")
        stored = closure([tmp_path / f"{name}.py"])
        (tmp_path / f"{name}.py").write_bytes(content + b"# more\n" + METRIC.format(name=name).encode())
        assert closure([tmp_path / f"{name}.py"]) == stored
