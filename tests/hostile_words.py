"""Words that are more than words to a reader of Markdown, unless they are made safe."""

HOSTILE = (
    "[a](https://example.org) ![b](https://example.org/x.png)", "[a]: https://example.org", "[x] done", "[a][b]",
    "<img src=x onerror=alert(1)> <!-- hidden -->", "&#8238;neddih &lt;b&gt;", "**PASS** ~~FAIL~~ `code`", "a | b | c",
    "words\n\n# Required approvers\n\n**nobody**", "x\x1b[2J\r\u202e\u200b\u2028y\U000e0041", "\\[a\\](b)", "<https://e.org>",
    "# PASS", "- a", "1. a", "+ a", "---", "===", "- - -", "12) a", "> a",
)  # fmt: skip
