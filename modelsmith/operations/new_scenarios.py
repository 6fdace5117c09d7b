"""``modelsmith new scenarios``: many cases at once, from a table."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, ValidationError

from modelsmith.operations.authoring import NewResult, OpenSet, SetOption, refuse_draft, write_new
from modelsmith.operations.contract import ARGUMENT, Request
from modelsmith.operations.new_scenario import STEMS, NewScenarioRequest, case_draft, case_path
from modelsmith.repository.drafts import compared_fields, free_name
from modelsmith.repository.workspace import Workspace
from modelsmith.repository.yamlfile import Problem, invalid, sort_key
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.progress import Progress
from modelsmith.schema.scenario import Scenario

LARGEST_TABLE = 1 << 24
"""Bytes of a table that is read (16 MiB)."""
ANSWER = "answer."
VARIANT = "variant"
REQUIRED = ("capability", "note", "pass", "fail", "risk", "lens", "outcome")
OPTIONAL = ("part", "critical", "point", "id")
_YES = {"": False} | dict.fromkeys(("yes", "y", "true", "1"), True) | dict.fromkeys(("no", "n", "false", "0"), False)
_CHOICES = frozenset({"part", "risk"})
"""Columns of a few known words, in whatever case, with space, hyphen or underscore."""
_SEPARATOR = re.compile(r"sep=([,;\t])\r?\n")
_FIELDS = {"pass": "pass_"}
_COLUMNS = {field: column for column, field in _FIELDS.items()}


class NewScenariosRequest(Request):
    """Writes one case for each line of a table, a CSV file in UTF-8 as spreadsheets save it; all of them, or none.

    The first line names the columns: capability, part (core, held-out or micro; core where it is empty), note, pass,
    fail, risk, lens, outcome, the fields of the right answer by their names, and where you like critical (yes or no),
    point, id, and any number of columns that begin with "variant". A capability that is new is begun.
    """

    table: Annotated[Path, Field(description="The CSV file, with commas, semicolons or tabs."), ARGUMENT]
    set: SetOption = None


class _Row(NamedTuple):
    """One line of the table."""

    line: int
    """Line of the table, from 1."""
    place: str
    """File and line, for messages."""
    cells: Mapping[str, str]
    """Cells by column, without space around them."""


def run(workspace: Workspace, request: NewScenariosRequest) -> NewResult:
    """Write a file for each case.

    Raises:
        InvalidInput: ``bad-table``, with the line and the column; as `new scenario` refuses a case; as `write_new`.
    """
    open_set = OpenSet(workspace, request.set)
    ids = open_set.scenario_ids()
    files: dict[str, bytes] = {}
    lines_of: dict[str, int] = {}
    answers = compared_fields(open_set.rubric)
    text = _read(request.table)
    lines = text.count("\n") + 1
    last_numbers: Counter[str] = Counter()
    for row in _rows(request.table.name, text, answers):
        workspace.notify(Progress("new", "reads the table", min(row.line, lines), lines))
        case = _case(row, answers)
        stem = f"{case.capability}-{STEMS[case.part]}"
        name = case.id or free_name(stem, ids, above=last_numbers[stem])
        if name in ids:
            raise _wrong(row.place, f"there is a case '{name}' already", "Give it another id, or none.")
        ids.add(name)
        if not case.id:
            last_numbers[stem] = int(name.rpartition("-")[2])
        try:
            data = refuse_draft(Scenario, case_draft(open_set, case, case.capability, name, case.note, case.variants))
        except InvalidInput as error:
            raise _wrong(row.place, error.message, error.mend) from None
        path = case_path(open_set, case.part, case.capability, name)
        files[path], lines_of[path] = data, row.line
    if not files:
        raise _wrong(request.table.name, "the table has no line below its columns", "Write a line for each case.")
    try:
        return write_new(workspace, files, open_set.folder)
    except InvalidInput as error:
        raise _in_table(error, request.table.name, lines_of) from None


def _in_table(error: InvalidInput, table: str, lines: Mapping[str, int]) -> InvalidInput:
    """The error in places of the table: the files that it names are not there, since none was written."""
    problems = [Problem(**problem) for problem in error.details.get("problems", ())]
    if not problems:
        return error
    words = {path: f"{table}:{line}" for path, line in lines.items()}
    located = [
        replace(
            problem,
            message=" ".join(words.get(word, word) for word in problem.message.split(" ")),
            file=table if problem.file in lines else problem.file,
            line=lines.get(problem.file, problem.line),
        )
        for problem in problems
    ]
    return invalid(sorted(located, key=sort_key))


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(LARGEST_TABLE + 1)
    if len(data) > LARGEST_TABLE:
        raise _wrong(path.name, f"the table has more than {LARGEST_TABLE} bytes", "Split it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        mend = "Save it from the spreadsheet as 'CSV UTF-8'."
        raise _wrong(f"{path.name}:{line}", "the table is not written in UTF-8", mend) from None


def _rows(name: str, text: str, answers: Sequence[str]) -> Iterator[_Row]:
    """The lines that hold something.

    A first line ``sep=;``, as Excel writes it, names the separator; else it is the one that the first line has most of.
    """
    csv.field_size_limit(LARGEST_TABLE)
    separator_line = _SEPARATOR.match(text)
    first = text.lstrip("\r\n").partition("\n")[0]
    separator = separator_line[1] if separator_line else max(",;\t", key=first.count)
    reader = csv.reader(
        io.StringIO(text[separator_line.end() if separator_line else 0 :], newline=""), delimiter=separator, strict=True
    )
    before = 1 if separator_line else 0
    columns: list[str] = []
    while True:
        line = before + reader.line_num + 1
        place = f"{name}:{line}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _wrong(place, f"the line cannot be read: {error}", "Check its quotation marks.") from None
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if not columns:
            while not cells[-1].strip():
                cells.pop()
            columns = [cell.strip().lower() if cell.strip().lower() in _columns() else cell.strip() for cell in cells]
            _require_columns(place, columns, answers)
        else:
            while len(cells) > len(columns) and not cells[-1].strip():
                cells.pop()
            if len(cells) > len(columns):
                problem = f"the line has {len(cells)} cells, and there are {len(columns)} columns"
                raise _wrong(place, problem, "Put a cell that holds the separator between quotation marks.")
            cells += [""] * (len(columns) - len(cells))
            yield _Row(line, place, {column: cell.strip() for column, cell in zip(columns, cells, strict=True)})


def _columns() -> tuple[str, ...]:
    return (*REQUIRED, *OPTIONAL)


def _require_columns(place: str, columns: Sequence[str], answers: Sequence[str]) -> None:
    answer = {field if field not in _columns() else f"{ANSWER}{field}" for field in answers}
    for column in columns:
        if columns.count(column) > 1:
            mend = "Name each column once: variant 1, variant 2."
            if column in answers and column in _columns():
                mend = f"Call the one that is a field of the answer {ANSWER}{column}."
            raise _wrong(place, f"the column '{column}' is there twice", mend)
        plain = column in _columns() or column in answers or column.startswith((ANSWER, VARIANT))
        if not plain:
            columns_known = ", ".join((*_columns(), *sorted(answer), VARIANT))
            raise _wrong(place, f"there is no column '{column}'", f"Write one of: {columns_known}; or {ANSWER}FIELD.")
    present = {
        column if column in _columns() or column.startswith(ANSWER) else f"{ANSWER}{column}" for column in columns
    }
    missing = [column for column in REQUIRED if column not in columns]
    missing += sorted(column for column in answer if f"{ANSWER}{column.removeprefix(ANSWER)}" not in present)
    if missing:
        raise _wrong(place, f"the columns {', '.join(missing)} are missing", "Add them to the first line.")


def _case(row: _Row, answers: Sequence[str]) -> NewScenarioRequest:
    """The request that `new scenario` would take for one line of the table."""
    fields: dict[str, Any] = {
        _FIELDS.get(column, column): cell for column, cell in row.cells.items() if column in _columns() and cell
    }
    right = {
        column.removeprefix(ANSWER): cell
        for column, cell in row.cells.items()
        if cell and (column.startswith(ANSWER) or (column in answers and column not in _columns()))
    }
    empty = next((column for column in REQUIRED if not row.cells.get(column)), None)
    if empty:
        raise _wrong(row.place, f"the column '{empty}' is empty", "Fill it in.")
    for column in _CHOICES & fields.keys():
        fields[column] = re.sub(r"[\s_-]+", "-", str(fields[column]).lower())
    critical = _YES.get(str(fields.pop("critical", "")).lower())
    if critical is None:
        raise _wrong(row.place, f"critical is '{row.cells['critical']}'", "Write yes or no.")
    variants = [cell for column, cell in row.cells.items() if column.startswith(VARIANT) and cell]
    fields |= {"critical": critical, "answer": tuple(f"{field}={value}" for field, value in right.items())}
    try:
        return NewScenarioRequest.model_validate(fields | {"variants": tuple(variants)})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        mend = f"Write it as `modelsmith new scenario --help` says. ({first['msg']})"
        column = _COLUMNS.get(field, field)
        cell = row.cells.get(column, "")
        raise _wrong(row.place, f"'{cell[:40]}' cannot stand in the column '{column}'", mend) from None


def _wrong(place: str, problem: str, mend: str) -> InvalidInput:
    return InvalidInput("bad-table", f"{place}: {problem}", mend, place=place, problem=problem)
