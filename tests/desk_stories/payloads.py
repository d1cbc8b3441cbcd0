"""Texts of which none may run as script, however a page puts them in place."""

import itertools

# What would run says so by a flag of the window, which a test looks for.
_RUN = "window.ran=1"
_TAGS = ("img src=x", "svg", "body", "video src=x", "details open", "input autofocus", "iframe")
_EVENTS = ("onerror", "onload", "ontoggle", "onfocus", "onmouseover", "onanimationstart")
_ENDS = ("", '"', "'", "-->", "]]>", "</title>", "</textarea>", "</pre>", "</script>", "</style>")
_SCRIPTS = (
    f"<script>{_RUN}</script>",
    f"<ScRiPt>{_RUN}</sCrIpT>",
    f"<script src=data:text/javascript,{_RUN}></script>",
    f"<svg><script>{_RUN}</script></svg>",
    f"<math><mtext><script>{_RUN}</script></mtext></math>",
    f"<object data='data:text/html,<script>parent.{_RUN}</script>'></object>",
    f"<base href='javascript:{_RUN}//'>",
    f"<meta http-equiv=refresh content='0;url=javascript:{_RUN}'>",
)
_URLS = (
    f"javascript:{_RUN}",
    f"JaVaScRiPt:{_RUN}",
    f"java\tscript:{_RUN}",
    f"\x01javascript:{_RUN}",
    f"data:text/html,<script>{_RUN}</script>",
    f"vbscript:{_RUN}",
    "//evil.example/desk",
    "/\\evil.example",
)
_OTHERS = (
    *("{{7*7}}", "{% raw %}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "{{ visit.desk.sessions }}"),
    f'{{"a": "</script><script>{_RUN}</script>"}}',
    f'{{"__proto__": {{"onload": "{_RUN}"}}}}',
    "\u202e<gpj.exe>\u202c",
    "a\u200bb\u200c\u2066c\u2069",
    f"\ufeff<script>{_RUN}</script>",
    f"\uff1cscript\uff1e{_RUN}\uff1c/script\uff1e",
    "* { background: url(//evil.example) }",
    f"</style><style onload={_RUN}>*{{}}</style>",
    f"<style>@import'javascript:{_RUN}'</style>",
    f"<a style='x:expression({_RUN})'>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<form action=//evil.example><button id=q name=csrf>Approve</button></form>",
    "<template shadowrootmode=open><slot onslotchange=window.ran=1></slot></template>",
    "<noscript><p title='</noscript><img src=x onerror=window.ran=1>'></noscript>",
)

PAYLOADS = [
    *(end + script for end, script in itertools.product(_ENDS, _SCRIPTS)),
    *(
        f'{end}><{tag} {event}="{_RUN}">'
        for end, tag, event in itertools.product(("", '"', "'"), _TAGS, _EVENTS)
    ),
    *(f'" href="{url}' for url in _URLS),
    *_URLS,
    *_OTHERS,
]
