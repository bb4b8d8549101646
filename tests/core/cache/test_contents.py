"""Hashes of files: read once, and again only where a file changed."""

from pathlib import Path

from avsc_core.cache.contents import hash_files


def test_contents_are_read_once(tmp_path: Path):
    paths = [tmp_path / f"{number}.wav" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_text(str(number))
    totals: list[int] = []

    def report(done: int, total: int) -> None:
        totals.append(total)

    first = hash_files(tmp_path / "i.json", paths, report)
    assert totals == [5] * 5
    totals.clear()
    paths[2].write_text("changed")
    second = hash_files(tmp_path / "i.json", [*paths, tmp_path / "absent"], report)
    assert totals == [2, 2]
    assert [a == b for a, b in zip(first, second, strict=False)] == [True, True, False, True, True]
    assert second[5] == f"{tmp_path / 'absent'}: No such file or directory"
