"""What a server of GitHub's shape says of a repository's rules, and takes as new ones. See `github_server`.

By "REST API endpoints for rules", "... for protected branches", "... for GitHub Actions permissions" and "List
CODEOWNERS errors". Bypass lists are shown to whoever may write the ruleset; the rest takes what each page names.
"""

from __future__ import annotations

import hashlib
import json
import time
from datetime import UTC, datetime
from typing import Any

import jwt
from github_server import ALL, Account, GitHubServer, Refused, Repo, account_number

ADMIN = "administration"
HOOK = """\
#!/bin/sh
case " $(cat rules/bypass) " in *" $REMOTE_USER "*) exit 0;; esac
while read -r old new ref; do
  if test "$ref" = refs/heads/main; then
    echo "error: GH013: Repository rule violations found for refs/heads/main." >&2
    echo "Review all repository rules at https://github.com/acme/promotions/rules" >&2
    echo "- Changes must be made through a pull request." >&2
    exit 1
  fi
done
"""
PULLS_ONLY = {
    "type": "pull_request",
    "parameters": {
        "required_approving_review_count": 0, "dismiss_stale_reviews_on_push": False,
        "require_code_owner_review": False, "require_last_push_approval": False,
        "required_review_thread_resolution": False, "allowed_merge_methods": ["merge", "squash", "rebase"],
    },
}  # fmt: skip


class SettingsServer(GitHubServer):
    """With rulesets, protection, workflow permissions and errors of CODEOWNERS."""

    apps: dict[str, str]
    """Public key in PEM of each app, by its id."""
    installed: bool = True
    clock = staticmethod(time.time)
    token_seconds: float = 3600
    """Seconds that an app's token lives."""

    def _app_account(self, secret: str) -> Account | None:
        """By "Generating a JSON Web Token (JWT) for a GitHub App": RS256, of now, for ten minutes."""
        try:
            app = jwt.decode(secret, options={"verify_signature": False})["iss"]
            claims = jwt.decode(secret, self.apps[app], algorithms=["RS256"], options={"verify_iat": False})
        except (jwt.PyJWTError, KeyError, AttributeError):
            return None
        if claims["iat"] > self.clock() or claims["exp"] > self.clock() + 600:
            raise Refused(401, "'Issued at' claim ('iat') must be an Integer representing the time that it was issued")
        return Account(f"app/{app}", frozenset())

    def _installation(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        if not account.login.startswith("app/") or not self.installed:
            raise Refused(404, "Not Found")
        facts = dict.fromkeys(["access_tokens_url", "repositories_url", "html_url"], self.web)
        at = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
        facts |= {"id": 77, "account": self._user("acme"), "app_id": 5, "app_slug": "smith", "target_id": 1}
        facts |= {"target_type": "Organization", "permissions": {}, "events": [], "single_file_name": None}
        return 200, facts | at | {"repository_selection": "selected", "suspended_by": None, "suspended_at": None}, {}

    def _elsewhere(self, http: Any, parts: list[str]) -> Any:
        if parts == ["app", "installations", "77", "access_tokens"]:
            app = self._account(http)
            if not app.login.startswith("app/"):
                raise Refused(401, "A JSON web token could not be decoded")
            secret = f"ghs_{hashlib.sha256(str(self._id()).encode()).hexdigest()[:36]}"
            ends = time.time() + self.token_seconds
            self.tokens[secret] = Account("smith[bot]", ALL, app=True, ends=ends)
            expiry = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            return 201, {"token": secret, "expires_at": expiry}, {}
        return 200, self._of_nobody(parts), {}

    def _of_nobody(self, parts: list[str]) -> Any:
        if parts[0] == "users" and len(parts) == 2:
            if parts[1] not in {token.login for token in self.tokens.values()}:
                raise Refused(404, "Not Found")
            zero = dict.fromkeys(["public_repos", "public_gists", "followers", "following"], 0)
            none = dict.fromkeys(["name", "company", "blog", "location", "email", "hireable", "bio"])
            at = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
            return self._user(parts[1]) | zero | none | at
        if parts[:2] == ["apps", "github-actions"]:
            return self._app_page(15368, "github-actions")
        raise Refused(404, "Not Found")

    def _app_page(self, number: int, slug: str) -> dict[str, Any]:
        return {
            "id": number, "slug": slug, "node_id": "A", "owner": self._user("github"), "name": slug,
            "description": None, "external_url": self.web, "html_url": f"{self.web}/apps/{slug}",
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "permissions": {}, "events": [],
        }  # fmt: skip

    def _routes(self) -> list[Any]:
        return [
            ("GET", r"installation", "", self._installation),
            ("PATCH", r"", ADMIN, self._set_repository),
            ("GET", r"rules/branches/main", "", self._rules_of_main),
            ("GET", r"rulesets", "", self._list_rulesets),
            ("POST", r"rulesets", ADMIN, self._make_ruleset),
            ("GET", r"rulesets/(\d+)", "", self._get_ruleset),
            ("PUT", r"rulesets/(\d+)", ADMIN, self._put_ruleset),
            ("GET", r"branches/main/protection", ADMIN, self._protection),
            ("GET", r"actions/permissions/workflow", ADMIN, lambda repo, *_: (200, repo.workflows, {})),
            ("PUT", r"actions/permissions/workflow", ADMIN, self._set_workflows),
            ("GET", r"codeowners/errors", "contents", self._codeowners),
            *super()._routes(),
        ]

    def rules(self, repo: Repo, *bypass: str, **more: Any) -> None:
        """A ruleset on main that wants pull requests; the logins may bypass it."""
        actors = [
            {"actor_type": "User", "actor_id": account_number(login), "bypass_mode": "always"} for login in bypass
        ]
        rule = PULLS_ONLY | {"parameters": PULLS_ONLY["parameters"] | more.pop("parameters", {})}
        ruleset = {"name": "main", "bypass_actors": actors, "rules": [rule, *more.pop("rules", ())]}
        repo.rulesets = [ruleset for ruleset in repo.rulesets if ruleset["name"] != "main"]
        self._keep(repo, ruleset | {"target": "branch", "enforcement": "active"})

    def _keep(self, repo: Repo, fields: dict[str, Any], number: int | None = None) -> dict[str, Any]:
        ruleset_kept = {
            "conditions": {"ref_name": {"include": ["~DEFAULT_BRANCH"], "exclude": []}},
            "rules": [],
        } | fields
        ruleset_kept |= {
            "id": number or self._id(),
            "source_type": "Repository",
            "source": repo.full_name,
            "node_id": "RS",
        }
        ruleset_kept |= {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
        repo.rulesets = [*(ruleset for ruleset in repo.rulesets if ruleset["id"] != ruleset_kept["id"]), ruleset_kept]
        self._enforce(repo)
        return ruleset_kept

    def _enforce(self, repo: Repo) -> None:
        """A push to main is refused unless its account passes every ruleset that wants pull requests."""
        sets = [
            ruleset
            for ruleset in repo.rulesets
            if any(r["type"] in ("pull_request", "update") for r in ruleset["rules"])
        ]
        hook = repo.bare / "hooks" / "pre-receive"
        if not sets:
            hook.unlink(missing_ok=True)
            return
        logins = {account.login for account in self.tokens.values()}
        free = [login for login in sorted(logins) if all(_passes(ruleset, login) == "always" for ruleset in sets)]
        (repo.bare / "rules").mkdir(exist_ok=True)
        (repo.bare / "rules" / "bypass").write_text(" ".join(free) + "\n")
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(HOOK)
        hook.chmod(0o755)

    def _rules_of_main(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        where = {"ruleset_source_type": "Repository", "ruleset_source": repo.full_name}
        sets = [ruleset for ruleset in repo.rulesets if ruleset["enforcement"] == "active"]
        return 200, [rule | where | {"ruleset_id": ruleset["id"]} for ruleset in sets for rule in ruleset["rules"]], {}

    def _list_rulesets(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        left_out = ("rules", "conditions", "bypass_actors")
        return 200, [{k: v for k, v in ruleset.items() if k not in left_out} for ruleset in repo.rulesets], {}

    def _get_ruleset(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        ruleset_found = next((ruleset for ruleset in repo.rulesets if ruleset["id"] == int(match[1])), None)
        if ruleset_found is None:
            raise Refused(404, "Not Found")
        visible_ruleset = ruleset_found | {"current_user_can_bypass": _passes(ruleset_found, account.login)}
        if ADMIN not in account.permissions:
            visible_ruleset.pop("bypass_actors", None)
        return 200, visible_ruleset, {}

    def _make_ruleset(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        if any(ruleset["name"] == payload["name"] for ruleset in repo.rulesets):
            raise Refused(422, "Validation Failed", ["Name must be unique"])
        return 201, self._keep(repo, payload) | {"current_user_can_bypass": "never"}, {}

    def _put_ruleset(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        return 200, self._keep(repo, payload, int(match[1])) | {"current_user_can_bypass": "never"}, {}

    def _protection(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        if repo.protection is None:
            raise Refused(404, "Branch not protected")
        return 200, repo.protection, {}

    def _set_workflows(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        repo.workflows |= payload
        return 204, None, {}

    def _set_repository(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        repo.methods |= {name: value for name, value in payload.items() if name in repo.methods}
        return 200, self._repository(repo), {}

    def _codeowners(self, repo: Repo, account: Account, match: Any, query: Any, payload: Any) -> Any:
        return 200, {"errors": json.loads(json.dumps(repo.owners_errors))}, {}


def owners_error(line: int, source: str) -> dict[str, Any]:
    """What GitHub says of an owner that it does not know."""
    return {"line": line, "column": 1, "kind": "Unknown owner", "source": source, "suggestion": None,
            "message": f"Unknown owner on line {line}", "path": ".github/CODEOWNERS"}  # fmt: skip


def _passes(ruleset: dict[str, Any], login: str) -> str:
    actors = ruleset.get("bypass_actors", ())
    mine = [actor for actor in actors if (actor["actor_type"], actor["actor_id"]) == ("User", account_number(login))]
    return {"always": "always", "pull_request": "pull_requests_only"}[mine[0]["bypass_mode"]] if mine else "never"
