"""The page's one style sheet: light, dark, phone and paper."""

CSS = """
:root{color-scheme:light dark;--paper:#fbfcfd;--card:#fff;--ink:#141a21;--soft:#5a6572;--faint:#8b95a1;--rule:#e2e7ec;
--grid:#edf0f3;--accent:#0b6e75;--good:#0b6e75;--bad:#b4530a;--warn:#fff4e0;--warn-ink:#7a3e00;--warn-rule:#f0b65c;
--c0:#0b7a80;--c1:#c2570c;--c2:#4a4fd0;--c3:#b3206f;--c4:#66780a;--c5:#0a69b0;--c6:#8a5a2b;--c7:#6b7280;
--m0:#0f8b8d;--m1:#e0701a;--m2:#5558dd;--m3:#c92c7d;--m4:#86a00f;--m5:#1d86d6;--m6:#a0662f;--m7:#7b8794;--m8:#d8ab00;
--m9:#d13b3b;--m10:#2f9e55;--m11:#9a4fd0}
@media(prefers-color-scheme:dark){:root{--paper:#0f1317;--card:#161b21;--ink:#e8edf2;--soft:#a1adb9;--faint:#75818d;
--rule:#29313a;--grid:#212830;--accent:#5ccfd0;--good:#5ccfd0;--bad:#f6a04d;--warn:#2b2010;--warn-ink:#ffd591;
--warn-rule:#8a5a1c;--c0:#4fc9cb;--c1:#f79a52;--c2:#a2a6ff;--c3:#f27db8;--c4:#bccb55;--c5:#74bdf5;--c6:#d3a372;
--c7:#aab4c0}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);overflow-wrap:break-word;-webkit-font-smoothing:antialiased;
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans",Arial,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 32px 72px}
a{color:var(--accent);text-decoration-thickness:1px;text-underline-offset:2px}
b,th{font-weight:600}
.brand{display:flex;align-items:center;gap:10px;color:var(--soft);font-size:13px;margin:0 0 52px}
.brand svg{width:26px;height:26px;flex:none}.brand b{color:var(--ink);letter-spacing:.02em}
.brand bdi{margin-left:auto;text-align:right;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
h1{font-size:clamp(28px,4.6vw,46px);line-height:1.12;letter-spacing:-.022em;font-weight:300;margin:0 0 18px;
max-width:22em;text-wrap:balance}
h1 b{font-weight:600}
.lede{font-size:clamp(17px,1.9vw,20px);line-height:1.5;color:var(--soft);max-width:42em;
margin:0 0 34px;text-wrap:pretty}
.lede b{color:var(--ink)}
h2{font-size:22px;letter-spacing:-.012em;line-height:1.25;margin:0 0 6px}
h3{font-size:13px;font-weight:600;color:var(--soft);margin:26px 0 8px}
section{margin-top:60px;padding-top:22px;border-top:1px solid var(--rule)}
.note{color:var(--soft);max-width:46em;margin:0 0 20px}
.empty{color:var(--soft);border:1px dashed var(--rule);border-radius:10px;padding:18px 20px;margin:12px 0}
.warning{background:var(--warn);color:var(--warn-ink);border:1px solid var(--warn-rule);border-radius:10px;
padding:14px 18px;margin:0 0 30px;max-width:46em}
.scores{display:grid;grid-template-columns:repeat(auto-fit,minmax(230px,1fr));gap:16px;margin:0 0 16px}
.score{background:var(--card);border:1px solid var(--rule);border-radius:14px;padding:18px 20px 16px}
.score h3{margin:0}.score .big{font-size:44px;line-height:1.1;font-weight:300;letter-spacing:-.03em;margin:6px 0 8px;
font-variant-numeric:tabular-nums}
.score .big small{font-size:15px;letter-spacing:0;font-weight:600;margin-left:10px;white-space:nowrap}
.score p{margin:4px 0 0;color:var(--soft);font-size:13px}.up{color:var(--good)}.down{color:var(--bad)}
.score svg{display:block;width:100%;height:auto;overflow:visible}
.track{stroke:var(--rule);stroke-width:4;stroke-linecap:round}.gain{stroke:var(--accent);stroke-width:4}
.gain.loss{stroke:var(--bad)}.before{fill:var(--card);stroke:var(--soft);stroke-width:2}.after{fill:var(--accent)}
.beside{stroke:var(--ink);stroke-width:2}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(132px,1fr));gap:16px 24px;margin:26px 0 0}
.facts div{min-width:0}.facts dt{color:var(--soft);font-size:12.5px}
.facts dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;margin:0 0 8px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:8px 14px 8px 0;text-align:left;border-bottom:1px solid var(--grid);vertical-align:baseline}
thead th{color:var(--soft);font-size:12.5px;font-weight:500;border-color:var(--rule);white-space:nowrap}
.n{text-align:right;white-space:nowrap}tr.total td{border-top:1px solid var(--rule);border-bottom:0;font-weight:600}
tr.quiet td,tr.quiet th{color:var(--soft);font-weight:400}td:last-child,th:last-child{padding-right:0}
tbody th{font-weight:600;min-width:7em}th small{color:var(--soft);font-weight:400}
td.bar{width:34%;min-width:110px}td.bar i{display:block;height:9px;border-radius:5px;background:var(--c0);min-width:2px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr));gap:0 30px;margin-top:18px}
.chart{margin:0;padding-bottom:32px;min-width:0;display:grid;grid-template-rows:subgrid;grid-row:span 4;row-gap:0;
align-content:start}
.chart figcaption{font-weight:600;display:flex;gap:14px;justify-content:space-between;align-items:baseline}
.chart figcaption b{font-variant-numeric:tabular-nums}.chart .hint{color:var(--soft);font-size:13px;margin:0 0 10px}
.chart svg{width:100%;height:auto;display:block}.chart>.empty{margin:10px 0 0;align-self:start}
.legend{list-style:none;margin:4px 0 8px;padding:0;display:flex;flex-wrap:wrap;gap:1px 16px;font-size:13px;
align-content:start;color:var(--soft)}
.legend li{display:flex;align-items:center;gap:6px;min-width:0;max-width:min(100%,20em)}
.legend bdi{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.legend b{color:var(--ink);font-variant-numeric:tabular-nums;white-space:nowrap}
.legend i{flex:none;width:14px;border-top:3px solid var(--c);border-radius:2px}
.legend .dashed i{border-top-style:dashed}.legend .reference i{border-top:2px dotted var(--soft)}
.bill{display:grid;grid-template-columns:minmax(0,340px) minmax(0,1fr);gap:10px 48px;margin-top:14px}
.bill .chart{grid-row:auto;grid-template-rows:auto;max-width:400px}
.beside-each-other{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,380px),1fr));gap:0 56px}
.pair{grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
.front{list-style:none;margin:8px 0;padding:0}
.front li{display:flex;align-items:baseline;gap:10px;padding:5px 0;border-bottom:1px solid var(--grid)}
.front bdi{min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;margin-right:auto}
.front b,.front span{font-variant-numeric:tabular-nums;white-space:nowrap}.front span:last-child{min-width:7em;
color:var(--soft);text-align:right}
.road td.bar{width:16%;min-width:90px;padding-right:22px}.road td.bar i{background:var(--c);border-radius:2px}
.road td.bar i.shelf{background:repeating-linear-gradient(135deg,var(--c) 0 1.5px,transparent 1.5px 5px)}
.road td.bar i.unknown{background:none;border:1px dashed var(--soft)}
.road th{white-space:nowrap}.road th bdi{display:inline-block;max-width:14em;overflow:hidden;text-overflow:ellipsis;
vertical-align:bottom}.road td,.road tbody th{border-bottom:0;padding-top:5px;padding-bottom:5px}
.road tr.first td,.road tr.first th{border-top:1px solid var(--rule);padding-top:12px}
.road tr.sum{color:var(--ink);font-weight:600}.road tr.sum+tr.first td{padding-top:12px}.road .where{color:var(--soft);
font-size:12.5px;font-weight:400;white-space:nowrap}
.span{stroke:var(--c);stroke-width:2;opacity:.55}.span.open{stroke-dasharray:2 5;stroke-linecap:round}
.grid{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--rule);stroke-width:1}
.tick,.name,.label{font-size:11px;fill:var(--soft);font-variant-numeric:tabular-nums}.label{fill:var(--ink);font-weight:600}
.end{text-anchor:end}.mid{text-anchor:middle}
.line,.trail{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.trail{stroke-width:1.5;opacity:.45}.line.dashed,.trail.dashed{stroke-dasharray:5 4;stroke-linecap:butt}
.band{fill:var(--c);opacity:.16}.point,.mark{fill:var(--c)}.mark{stroke:var(--paper);stroke-width:1.5}
.mark.hollow{fill:var(--paper);stroke:var(--c);stroke-width:2}
.way{fill:none;stroke:var(--c1);stroke-width:1;opacity:.5}.place{fill:var(--c1)}.cell{fill:var(--c0)}
.level{fill:none;stroke:var(--soft);stroke-width:1.5;stroke-dasharray:1 4;stroke-linecap:round}
.hover{fill:transparent}.hover:hover{fill:var(--ink);opacity:.07}
COLOURS
.rows{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr));gap:22px 44px}
.row{display:grid;grid-template-columns:1.32fr repeat(6,1fr);gap:6px;align-items:start}
.near{margin:0;min-width:0;font-size:12px;color:var(--soft);font-variant-numeric:tabular-nums}
.near img{display:block;width:100%;aspect-ratio:1;object-fit:cover;border-radius:6px;background:var(--grid)}
.near.query{padding-right:10px}.asked{grid-column:1/-1;margin:0;font-size:12.5px;color:var(--soft);overflow:hidden;
text-overflow:ellipsis;white-space:nowrap}.asked b{color:var(--ink);margin-right:5px}
.near figcaption{margin-top:4px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;line-height:1.35}
.near figcaption b{margin-right:3px}.same b,.same-word{color:var(--good)}.other b,.other-word{color:var(--bad)}
.near.other img{opacity:.72}
.pixelated img{image-rendering:pixelated}
.map{position:relative;margin-top:16px}
.map img{position:absolute;width:calc(var(--cell)*.94);aspect-ratio:1;object-fit:cover;border-radius:3px;
border-bottom:3px solid var(--c,transparent);background:var(--grid);transition:transform .12s}
.map img:hover{transform:scale(3.4);z-index:2;box-shadow:0 2px 10px #0006}
pre{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:16px 18px;overflow-x:auto;
margin:8px 0 18px;font:13.5px/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,"Noto Sans Mono",monospace}
.settings{columns:3 300px;column-gap:44px;margin-top:10px}
.settings dl{margin:0 0 22px;break-inside:avoid-column;font-size:13.5px}.settings h3{margin:0 0 4px;break-after:avoid}
.settings dl div{display:flex;gap:14px;justify-content:space-between;padding:4px 0;border-bottom:1px solid var(--grid)}
.settings dt{color:var(--soft);flex:none;max-width:55%}.settings dd{margin:0;text-align:right;min-width:0;
overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.key{display:inline-block;min-width:1.5em;font-weight:600;color:var(--c)}
.names{overflow-wrap:anywhere}
footer{margin-top:64px;color:var(--faint);font-size:13px}
@media(max-width:760px){.bill{grid-template-columns:minmax(0,1fr)}}
@media(max-width:640px){main{padding:20px 18px 56px}.brand{margin-bottom:34px}section{margin-top:44px}
.score .big{font-size:38px}.row{gap:4px}.near{font-size:11px}.near.query{padding-right:6px}
.facts{grid-template-columns:repeat(2,1fr)}td.bar{min-width:70px}th,td{padding-right:12px}}
@media print{:root{color-scheme:light;--paper:#fff}body{font-size:10.5pt;print-color-adjust:exact;
-webkit-print-color-adjust:exact}main{max-width:none;padding:0}.brand{margin-bottom:24px}section{margin-top:28px}
figure,.score,.row,.map,.bill,pre,tr,#map,.settings dl{break-inside:avoid}
.rows{grid-template-columns:1fr 1fr;gap:14px 28px}
.bill{grid-template-columns:5fr 7fr}.score .big{font-size:30px}h2,h3,.note{break-after:avoid}.scroll{overflow:visible}
.map{max-width:16cm;margin:auto}pre{white-space:pre-wrap}.charts{grid-template-columns:repeat(3,1fr)}}
""".replace(
    "COLOURS",
    "".join(f".c{i}{{--c:var(--c{i})}}" for i in range(8)) + "".join(f".m{i}{{--c:var(--m{i})}}" for i in range(12)),
).strip()
