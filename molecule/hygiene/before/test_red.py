"""After planting, before the role: the check is red, for each item of the list."""

from fnmatch import fnmatch


def test_the_check_reports_it(findings: list[str], item: dict[str, str]) -> None:
    lines = [line for line in findings if line.endswith(f": must be {item['state']}: {item['reason']}")]
    paths, wanted = [line.split(": must be ")[0] for line in lines], item["path"].replace("~", "/home/*")
    assert any(fnmatch(path, wanted) or fnmatch(path, f"{wanted}/*") for path in paths)
