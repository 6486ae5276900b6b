"""After planting, before the role: the check is red, for each item of the list."""

from fnmatch import fnmatch


def test_the_check_reports_it(findings: list[str], item: dict[str, str]) -> None:
    lines = [line for line in findings if line.endswith(f": must be {item['state']}: {item['reason']}")]
    paths = [line.split(": must be ")[0] for line in lines]
    assert any(fnmatch(path, item["path"]) or fnmatch(path, f"{item['path']}/*") for path in paths)
