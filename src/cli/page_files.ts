/** What the status page loads besides itself. */

/** Takes new pieces as they come, and puts each in the place of the old one. */
export const script = `const live = document.getElementById("live");
const source = new EventSource("live");
source.onopen = () => live.textContent = "live";
source.onerror = () => live.textContent = "not connected: sam has ended, or cannot be reached";
source.onmessage = ({ data }) => {
  const { id, html } = JSON.parse(data);
  const place = document.getElementById(id);
  if (place) place.innerHTML = html;
};
`;

/** System colours, so that it is dark where the user likes it dark; what colour says, words say too. */
export const style = `:root { color-scheme: light dark; font: 100%/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 50rem; padding: 1rem; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.2; margin: 1.5rem 0 .5rem; }
h3 { font-size: 1rem; }
article { border-top: 1px solid; margin-top: 1.5rem; }
.state { border: 2px solid; border-radius: .3rem; display: inline-block; font-weight: bold; margin: 0; padding: 0 .5rem; }
.well { color: light-dark(#166534, #86efac); }
.ill { border-style: dashed; color: light-dark(#9f1239, #fda4af); }
dl { display: grid; gap: .25rem 1rem; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); }
dt { font-size: .875rem; opacity: .75; }
dd { margin: 0; }
svg { display: block; fill: currentColor; width: 100%; }
.time { height: 1.5rem; }
.time rect { fill-opacity: .35; stroke: currentColor; vector-effect: non-scaling-stroke; }
.time path { stroke: currentColor; stroke-width: 3; vector-effect: non-scaling-stroke; }
.bar { height: .8rem; }
.slack td:last-child { width: 60%; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; overflow-wrap: break-word; font-variant-numeric: tabular-nums; width: 100%; }
th, td { border-bottom: 1px solid; padding: .1rem .75rem .1rem 0; text-align: left; }
pre { border: 1px solid; overflow-x: auto; overflow-wrap: normal; padding: .5rem; }
`;
