from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.validate import Report, validate
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.promotion import Preparer, PromotionRecord
from modelsmith.signing.keys import create_ssh_key

Edit = Callable[[str, str, str], None]
Put = Callable[[str, str | bytes | None], None]

SET = "evals/ads/diagnosis"
POLICY = ".github/governance/policy.yaml"
PEOPLE = ".github/governance/people.yaml"
ZERO = "sha256:" + "0" * 64


def _where(report: Report) -> list[tuple[str, int | None, str]]:
    assert all(problem.message and problem.mend for problem in report.problems)
    return [(problem.file, problem.line, problem.field) for problem in report.problems]


def _check(repo: Path, *paths: str) -> list[tuple[str, int | None, str]]:
    return _where(validate(WorkTree(repo), paths))


def test_a_sound_repository_has_no_problems_and_says_what_was_checked(repo: Path) -> None:
    report = validate(WorkTree(repo))
    assert report.problems == ()
    assert report.kinds == {
        "cluster": 1, "cluster-defaults": 1, "codeowners": 1, "evalset": 1, "generator": 1, "people": 1, "policy": 1,
        "rubric": 1, "scenario": 3,
    }  # fmt: skip
    assert report.files == 11
    pair = report.nearest["ads/diagnosis"]
    assert 0 < pair.similarity < pair.limit == 0.85
    assert pair.first == "floor-held-1"
    assert vars(pair)


def test_all_mistakes_of_all_files_are_named_at_once_and_sorted(repo: Path, change: Edit) -> None:
    change(POLICY, "gate: head", "gate: boss")
    change("clusters/pricing/cluster.yaml", "ads/diagnosis", "ads/diagnoses")
    change(f"{SET}/scenarios/floors/floor-1.yaml", "risk: low", "risk: huge")
    change(f"{SET}/rubrics/quality.yaml", "owner: domain-lead", "owner: nobody")
    assert _check(repo) == [
        (POLICY, 4, "transitions[1].gate"),
        ("clusters/pricing/cluster.yaml", 10, "eval_set"),
        (f"{SET}/rubrics/quality.yaml", 2, "owner"),
        (f"{SET}/scenarios/floors/floor-1.yaml", 3, "risk"),
    ]


def test_only_the_named_part_is_reported(repo: Path, change: Edit) -> None:
    change(POLICY, "gate: head", "gate: boss")
    change(f"{SET}/scenarios/floors/floor-1.yaml", "risk: low", "risk: huge")
    change(f"{SET}/held_out/floors/floor-held-1.yaml", "point: cause", "point: tone")
    held_out = f"{SET}/held_out/floors/floor-held-1.yaml"
    assert _check(repo, f"{SET}/held_out/") == [(held_out, 12, "criteria[0].point")]
    assert _check(repo, f"./{SET}/held_out/floors/floor-held-1.yaml") == [(held_out, 12, "criteria[0].point")]
    assert _check(repo, str(repo / SET / "held_out")) == [(held_out, 12, "criteria[0].point")]
    assert _check(repo, "clusters") == []
    assert len(_check(repo, ".")) == 3
    assert validate(WorkTree(repo), [held_out]).files == 1


def test_a_path_outside_the_repository_or_with_nothing_at_it_is_refused(repo: Path) -> None:
    for path, code in [
        ("../x", "outside-repository"),
        ("/etc", "outside-repository"),
        ("evals/none", "missing-file"),
        ("evals/../../x", "outside-repository"),
    ]:
        with pytest.raises(InvalidInput) as refused:
            validate(WorkTree(repo), [path])
        assert refused.value.code == code


@pytest.mark.parametrize(
    "path",
    [
        f"{SET}/scenarios/floors/floor-2.yml",
        f"{SET}/scenarios/floors/notes.txt",
        f"{SET}/scenarios/floor-2.yaml",
        f"{SET}/heldout/floors/floor-2.yaml",
        f"{SET}/rubrics/old/quality.yaml",
        "evals/ads/pending/x.json",
        "evals/loose.yaml",
        "clusters/pricing/clutser.yaml",
        ".github/governance/policies.yaml",
    ],
)
def test_a_file_that_nothing_would_read_is_named(repo: Path, put: Put, path: str) -> None:
    put(path, "x")
    assert _check(repo) == [(path, None, "")]


@pytest.mark.parametrize(
    "path", ["evals/ads/pending/.gitkeep", f"{SET}/README.md", "clusters/pricing/.local/x", "docs/x"]
)
def test_notes_beside_governed_files_are_welcome(repo: Path, put: Put, path: str) -> None:
    put(path, "x")
    assert _check(repo) == []


def test_linked_files_and_folders_are_refused(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (repo / SET / "scenarios" / "linked").symlink_to(tmp_path / "elsewhere")
    (repo / SET / "scenarios" / "floors" / "floor-2.yaml").symlink_to("floor-1.yaml")
    (repo / "clusters" / "linked").symlink_to(tmp_path / "elsewhere")
    assert [file for file, *_ in _check(repo)] == [
        "clusters/linked",
        f"{SET}/scenarios/floors/floor-2.yaml",
        f"{SET}/scenarios/linked",
    ]


def test_a_folder_of_scenarios_without_an_evalset_is_named(repo: Path, put: Put) -> None:
    put(f"{SET}/evalset.yaml", None)
    assert (f"{SET}/evalset.yaml", None, "") in _check(repo)


def test_pending_scenarios_are_checked_and_need_no_capability_folder(repo: Path, put: Put) -> None:
    text = (repo / SET / "scenarios" / "floors" / "floor-1.yaml").read_text()
    put("evals/ads/pending/floor-9.yaml", text.replace("floor-1", "floor-9"))
    put("evals/ads/pending/from-run/floor-8.yaml", text.replace("risk: low", "risk: none"))
    assert _check(repo) == [("evals/ads/pending/from-run/floor-8.yaml", 3, "risk")]
    put("evals/ads/pending/from-run/floor-8.yaml", text)
    assert _check(repo) == [("evals/ads/pending/from-run/floor-8.yaml", 1, "id")]


def test_a_weight_on_a_section_that_asks_nothing_is_named(repo: Path, put: Put, change: Edit) -> None:
    evalset, scenario = f"{SET}/evalset.yaml", f"{SET}/scenarios/floors/floor-1.yaml"
    change(evalset, "micro: 0", "micro: 0.5")
    assert _check(repo) == []
    put(f"{SET}/micro/floors/floor-micro-1.yaml", None)
    assert _check(repo) == [(evalset, 9, "composite.micro")]
    text = (repo / scenario).read_text()
    put(scenario, text[: text.index("variants:")])
    assert _check(repo) == [(evalset, 9, "composite.micro"), (evalset, 9, "composite.robustness")]
    change(evalset, "{core: 1, robustness: 1, micro: 0.5}", "{core: 0, robustness: 0, micro: 0}")
    assert _check(repo) == [(evalset, 9, "composite")]


def test_codeowners_must_be_sound_and_name_known_owners(repo: Path, put: Put) -> None:
    put(
        ".github/CODEOWNERS",
        "* @head\n/evals/ @domain-lead @org/head @maya @MAYA-T\n/x/ @nobody\n/y/ someone@example.org\n!/z @head\n",
    )
    assert _check(repo) == [
        (".github/CODEOWNERS", 3, ""),
        (".github/CODEOWNERS", 4, ""),
        (".github/CODEOWNERS", 5, ""),
    ]


def test_codeowners_must_ask_the_role_that_the_policy_names(repo: Path, change: Edit) -> None:
    change(".github/CODEOWNERS", "customer-deployed/ @head", "customer-deployed/ @domain-lead")
    report = validate(WorkTree(repo))
    assert _where(report) == [(POLICY, 4, "transitions[1].gate")]
    assert "/promotions/*/*/*-customer-deployed/ @head" in report.problems[0].mend


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("gate: head", "gate: harness", "the policy leaves it to the harness"),
        ("to: customer-deployed", "to: production-validated", "customer-deployed leads to customer-deployed"),
    ],
)
def test_no_policy_leaves_a_person_s_step_to_the_harness(
    repo: Path, change: Edit, old: str, new: str, words: str
) -> None:
    change(POLICY, old, new)
    report = validate(WorkTree(repo))
    assert [(p.file, p.line) for p in report.problems] == [(POLICY, 4)]
    assert words in report.problems[0].message


def test_people_must_be_unambiguous_and_their_trust_files_ec_p256_keys(repo: Path, put: Put) -> None:
    def pem(curve: ec.EllipticCurve) -> bytes:
        public = ec.generate_private_key(curve).public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    put(".github/governance/trust/good.pem", pem(ec.SECP256R1()))
    put(".github/governance/trust/large.pem", pem(ec.SECP384R1()))
    put(".github/governance/trust/broken.pem", b"nothing")
    text = (repo / PEOPLE).read_text()
    put(PEOPLE, text + "harness:\n  - id: harness\n    trust:\n      - good.pem\n")
    assert _check(repo) == []
    put(PEOPLE, text + "harness:\n  - id: maya\n    trust:\n      - large.pem\n      - broken.pem\n      - none.pem\n")
    assert _check(repo) == [
        (PEOPLE, None, ""),
        (PEOPLE, 9, "harness[0].trust[0]"),
        (PEOPLE, 10, "harness[0].trust[1]"),
        (PEOPLE, 11, "harness[0].trust[2]"),
    ]


def test_an_observer_s_key_that_another_has_too_is_a_warning(repo: Path, put: Put) -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    for name in ("harness", "twin"):
        put(
            f".github/governance/trust/{name}.pem", public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
    text = (repo / PEOPLE).read_text()
    harness = "harness:\n  - {id: harness, trust: [harness.pem]}\n"
    for lines, words in (
        ("  - {id: ci, observer: true, trust: [harness.pem]}\n", "also that of harness, which signs evidence"),
        ("  - {id: ci, observer: true, trust: [twin.pem]}\n", "also that of harness, which signs evidence"),
        ("  - {id: other, trust: [twin.pem]}\n", None),
    ):
        put(PEOPLE, text + harness + lines)
        report = validate(WorkTree(repo))
        assert report.problems == ()
        assert [words in warning.message for warning in report.warnings] == ([True] if words else [])


def test_routing_shares_must_add_up(repo: Path, put: Put) -> None:
    line = "  - {specialist: base, artifact: null, share: %s, record: null}\n"
    put("clusters/pricing/routing.yaml", "cluster: pricing\nserving:\n" + line % "0.9" + line % "0.1")
    assert _check(repo) == []
    put("clusters/pricing/routing.yaml", "cluster: other\nserving:\n" + line % "0.9")
    assert [field for *_, field in _check(repo)] == ["cluster", "serving"]


def test_a_record_must_be_canonical_and_lie_where_it_says(repo: Path, put: Put) -> None:
    record = PromotionRecord(
        cluster="pricing", specialist="iter-001-0a1b2c3d", sequence=1, event="candidate", from_state=None,
        to_state="candidate", artifact=ZERO, iteration=1, eval_run=None, eval_tag=None, composite=0.5, policy=ZERO,
        evidence={}, requested_by="maya", prepared_by=Preparer(id="harness", kind="harness"), expected_previous=None,
        required_approvers=(), rollback=None, previous_record=None, previous_receipts={},
    )  # fmt: skip
    folder = "promotions/pricing/iter-001-0a1b2c3d/01-candidate"
    put(f"{folder}/record.json", canonical_json(record))
    put(f"{folder}/report.md", "anything")
    assert _check(repo) == []
    put(f"{folder}/record.json", canonical_json(record) + b"\n")
    assert _check(repo) == [(f"{folder}/record.json", None, "")]
    put(f"{folder}/record.json", None)
    put(f"{folder.replace('01-', '02-')}/record.json", canonical_json(record))
    assert len(_check(repo)) == 1
    put(
        f"{folder.replace('01-', '02-')}/record.json",
        canonical_json(record).replace(b'"iteration":1', b'"iteration":0'),
    )
    assert _check(repo)[0][2] == "iteration"


def test_a_thousand_scenarios_validate_in_seconds(repo: Path, put: Put) -> None:
    text = (repo / SET / "scenarios" / "floors" / "floor-1.yaml").read_text()
    words = [
        "bid",
        "price",
        "floor",
        "seller",
        "deal",
        "win",
        "rate",
        "spend",
        "budget",
        "night",
        "click",
        "source",
        "hop",
        "fee",
        "late",
        "answer",
        "region",
    ]
    for n in range(1000):
        section = "held_out" if n % 4 == 0 else "scenarios"
        note = " ".join(words[(n * k + k) % len(words)] + chr(97 + (n // k) % 26) for k in range(1, 40))
        scenario_text = (
            text.replace("floor-1", f"s-{n}").replace("Publishers", f"Note {note}", 1).replace("Forty", note, 1)
        )
        put(f"{SET}/{section}/floors/s-{n}.yaml", scenario_text)
    put(f"{SET}/evalset.yaml", (repo / SET / "evalset.yaml").read_text() + "separation: {held_out_to_core: 1.0}\n")
    report = validate(WorkTree(repo))
    assert report.problems == ()
    assert report.files == 1011


@pytest.mark.parametrize("path", [POLICY, PEOPLE, ".github/CODEOWNERS"])
def test_what_every_repository_is_governed_by_must_be_there(repo: Path, put: Put, path: str) -> None:
    put(path, None)
    assert (path, None, "") in _check(repo)
    assert _check(repo, f"{SET}/held_out/") == [], "a part is judged alone"


def test_a_codeowners_that_no_forge_loads_is_named(repo: Path, put: Put) -> None:
    put(".github/CODEOWNERS", (repo / ".github/CODEOWNERS").read_bytes() + b"#" * (3 * 1024 * 1024))
    (problem,) = [p for p in validate(WorkTree(repo)).problems if p.file == ".github/CODEOWNERS"]
    assert "3 MB" in problem.message


def test_a_key_that_is_none_is_named_where_it_stands(repo: Path, change: Edit) -> None:
    change(PEOPLE, "{github: maya-t}", "{github: maya-t}, keys: [{key: ssh-ed25519 AAAA}]")
    assert _check(repo) == [(PEOPLE, 5, "people[0].keys[0].key")]


def test_one_key_or_one_look_for_two_people_is_named(repo: Path, put: Put, tmp_path: Path) -> None:
    key = create_ssh_key(tmp_path / "key", "maya")
    people = (
        (repo / PEOPLE).read_text()
        + f"""\
  - {{id: zoe, name: Zoë, roles: [], keys: [{{key: {key}}}]}}
  - {{id: yamada, name: 山田 太郎, roles: [], keys: [{{key: {key}}}]}}
  - {{id: lukasz, name: Łukasz, roles: []}}
  - {{id: mallory, name: "M\\u0430ya", roles: []}}
"""
    )
    put(PEOPLE, people)
    messages = {problem.message for problem in validate(WorkTree(repo)).problems}
    assert messages == {
        "The id 'maya' of maya and the display name 'M\u0430ya' of mallory look alike: U+0430 CYRILLIC SMALL LETTER A.",
        "The display name 'M\u0430ya' of mallory mixes alphabets in one word: U+0430 CYRILLIC SMALL LETTER A.",
        "The same SSH key stands under yamada and zoe.",
    }


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        ("{url: 'https://me:Sesame-1@host/v1', model: m}", "url"),
        ("{url: 'https://host/v1?key=Sesame-1', model: m}", "url"),
        ("{url: 'https://host/v1', model: m, key_env: Sesame-1}", "key_env"),
    ],
)
def test_a_secret_written_where_none_belongs_is_refused_and_not_repeated(repo: Path, endpoint: str, field: str) -> None:
    path = repo / "clusters/pricing/cluster.yaml"
    path.write_text(path.read_text() + f"baselines:\n  - name: frontier\n    endpoint: {endpoint}\n")
    report = validate(WorkTree(repo))
    assert [problem.field for problem in report.problems] == [f"baselines[0].endpoint.{field}"]
    assert "Sesame" not in str(report.problems)
    with pytest.raises(InvalidInput) as caught:
        load_cluster(WorkTree(repo), "pricing")
    assert "Sesame" not in str(caught.value.envelope())


def test_two_baselines_of_one_name_are_named_before_an_eval_mixes_them(repo: Path) -> None:
    path = repo / "clusters/pricing/cluster.yaml"
    text = "  - name: frontier\n    endpoint: {url: 'https://host/v1', model: m}\n"
    path.write_text(path.read_text() + "baselines:\n" + text + text)
    lines = path.read_text().splitlines()
    where = len(lines) - 1
    assert _check(repo) == [("clusters/pricing/cluster.yaml", where, "baselines[1].name")]
