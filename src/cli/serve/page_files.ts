/** The files that the status page loads. */

/**
 * Replaces the content of each piece that the server sends. Open details stay open. The server sends its clock every
 * second, so a longer silence means that the connection is lost.
 */
export const script = `const get = (id) => document.getElementById(id);
const silenceLimitMs = 5000;
let timer;
function lose() {
  document.body.className = "lost";
  get("lost").textContent ||= "Connection lost: sam has ended or cannot be reached. The page shows the state as of " +
    get("clock").textContent + ".";
}
function put(place, html) {
  const focused = document.activeElement;
  if (place.id === "programs") place.append(...html.split(" ").map(get));
  else {
    const same = new Map();
    for (const each of place.querySelectorAll("details")) same.set(each.firstChild.outerHTML, each);
    place.innerHTML = html;
    for (const each of place.querySelectorAll("details")) {
      each.replaceWith(same.get(each.firstChild.outerHTML) ?? each);
    }
  }
  if (focused !== document.activeElement) focused.focus({ preventScroll: true });
}
function connect() {
  const source = new EventSource("live");
  source.onmessage = ({ data }) => {
    const { id, html } = JSON.parse(data);
    clearTimeout(timer);
    timer = setTimeout(lose, silenceLimitMs);
    document.body.className = get("lost").textContent = "";
    const place = get(id);
    const isOther = id === "server" && place?.innerHTML !== html;
    const count = id === "programs" && html.split(" ").length;
    if (!place || isOther || (count && count !== place.childElementCount)) location.reload();
    else put(place, html);
  };
  source.onerror = () => {
    source.close();
    lose();
    setTimeout(connect, 2000);
  };
}
connect();
addEventListener("toggle", async ({ target }) => {
  const link = target.open && target.querySelector(":scope > pre > a");
  if (!link) return;
  const answer = await fetch(link).catch(() => {});
  if (answer?.ok) link.replaceWith(await answer.text());
}, true);
`;

/** The style sheet. It uses system colors to follow the user's dark mode, and never shows a state by color alone. */
export const style = `:root { color-scheme: light dark; font: 100%/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 64rem; overflow-wrap: anywhere; padding: 0 1rem 2rem; }
h1 { line-height: 1.2; margin: 1rem 0 .5rem; }
h2, h3 { font-size: 1rem; margin: 0; }
header { margin-bottom: .75rem; }
header p, dt, .scale, .key { font-size: .875rem; opacity: .8; }
#lost { background: Canvas; border: 3px solid; font-weight: bold; margin: 1rem 0; padding: .5rem; position: sticky; top: 0; z-index: 1; }
#lost:empty { display: none; }
.lost header, .lost main { filter: grayscale(1); opacity: .85; }
main > details { border-top: 1px solid #8888; }
main > details > :not(summary) { margin: 0 0 .75rem 1.5rem; }
summary, .live { align-items: baseline; display: grid; gap: 0 .75rem; padding: .15rem 0; }
summary { cursor: pointer; grid-template-columns: .75rem 7rem 12rem 1fr auto; padding: .4rem 0; }
summary::before, .live::before { content: "▸"; }
[open] > summary::before { content: "▾"; }
.live::before { content: ""; }
div > details > summary, .live { column-gap: .5rem; grid-template-columns: .75rem 2rem 1fr auto; padding: .15rem 0; }
@media (max-width: 50rem) {
  summary { grid-template-columns: .75rem 7rem 1fr; }
  main > details > summary > :nth-child(n + 3) { grid-column: 2 / -1; }
  div > details > summary, .live { grid-template-columns: .75rem 2rem 1fr; }
  div > details > summary > :last-child, .live > :last-child { grid-column: 3; }
}
.state { border: 2px solid; border-radius: .3rem; font-weight: bold; justify-self: start; padding: 0 .4rem; }
.well { color: light-dark(#166534, #86efac); }
.ill { color: light-dark(#9f1239, #fda4af); }
.state.ill { border-style: dashed; }
dl { display: grid; gap: .25rem 1rem; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); margin: .5rem 0; }
dd, p { margin: 0; }
svg { display: block; fill: currentColor; width: 100%; }
.time { height: 1.5rem; }
.scale { background: linear-gradient(currentColor, currentColor) 50% 0 / 1px .3rem no-repeat; border: 1px solid #8888; border-width: 1px 1px 0; display: grid; grid-template-columns: repeat(3, 1fr); padding: .2rem .2rem 0; }
.scale :nth-child(2) { text-align: center; }
.scale :last-child { text-align: right; }
.key svg { display: inline; height: 1rem; vertical-align: middle; width: 1rem; }
rect { fill-opacity: .35; stroke: currentColor; vector-effect: non-scaling-stroke; }
path { stroke: light-dark(#9f1239, #fda4af); stroke-width: 3; vector-effect: non-scaling-stroke; }
pre { border: 1px solid #8888; margin: 0 0 .5rem; padding: .5rem; white-space: pre-wrap; }
`;
