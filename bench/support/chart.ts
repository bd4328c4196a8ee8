// Bar charts as SVG, on a logarithmic scale. A chart follows the light or dark theme of its reader. Bars differ in pattern
// and name, not only in color.

/** The kind of a bar: this library, an alternative to it, or a bare runtime. */
export type BarKind = "sam" | "peer" | "floor";

/** One bar. Its length is the median; a thin line extends it to the 99th percentile. */
export interface Bar {
  readonly label: string;
  readonly value: number;
  readonly p99: number;
  readonly kind: BarKind;
}

/** Bars under one heading. */
export interface Group {
  readonly heading: string;
  readonly bars: readonly Bar[];
}

const barHeight = 17;
const headingHeight = 24;
const labelWidth = 290;
const scaleWidth = 460;
const valueWidth = 70;
const top = 74;

const style = `
svg{color-scheme:light dark}
text{font:12px system-ui,sans-serif;fill:#1f2328}
.title{font-size:14px;font-weight:bold}.heading{font-weight:bold}
.card{fill:#fff;stroke:#d1d9e0}.mark{stroke:#d1d9e0}
.sam{fill:#0b6bcb}.peer{fill:url(#hatched);stroke:#59636e}.floor{fill:none;stroke:#59636e;stroke-dasharray:3 2}
.hatch{stroke:#59636e}.p99{stroke:#1f2328}
@media (prefers-color-scheme: dark){
text{fill:#f0f6fc}.card{fill:#0d1117;stroke:#3d444d}.mark{stroke:#3d444d}
.sam{fill:#58a6ff}.peer,.floor{stroke:#b1bac4}.hatch{stroke:#b1bac4}.p99{stroke:#f0f6fc}
}`;

const names: Readonly<Record<BarKind, string>> = {
  sam: "@x/sam",
  peer: "alternative",
  floor: "bare runtime",
};

/** Draws groups of bars. A value of 0 has no bar. */
export function chart(title: string, groups: readonly Group[]): string {
  const bars = groups.flatMap((group) => group.bars);
  const values = bars.flatMap(({ value, p99 }) => [value, p99]).filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  const x = (value: number) =>
    value <= 0 ? 0 : ((Math.log10(value) - low) / (high - low)) * scaleWidth;
  const height = top + groups.length * headingHeight + bars.length * barHeight + 12;
  const width = labelWidth + scaleWidth + valueWidth;
  const marks = Array.from({ length: high - low + 1 }, (_, nth) => {
    const at = labelWidth + x(10 ** (low + nth));
    return `<line x1="${at}" y1="${top - 6}" x2="${at}" y2="${height - 10}" class="mark"/>` +
      `<text x="${at}" y="${top - 10}" text-anchor="middle">${
        Number((10 ** (low + nth)).toPrecision(1))
      }</text>`;
  });
  const drawn: string[] = [];
  let y = top;
  for (const { heading, bars } of groups) {
    drawn.push(`<text x="12" y="${y + 17}" class="heading">${escaped(heading)}</text>`);
    y += headingHeight;
    for (const bar of bars) {
      drawn.push(drawnBar(bar, y, x));
      y += barHeight;
    }
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<style>${style}</style>`,
    '<defs><pattern id="hatched" width="5" height="5" patternUnits="userSpaceOnUse" ' +
    'patternTransform="rotate(45)"><line y2="5" class="hatch" stroke-width="2"/></pattern></defs>',
    `<rect x=".5" y=".5" width="${width - 1}" height="${height - 1}" rx="6" class="card"/>`,
    `<text x="12" y="22" class="title">${escaped(title)}</text>`,
    legend(new Set(bars.map(({ kind }) => kind))),
    ...marks,
    ...drawn,
    "</svg>\n",
  ].join("\n");
}

function drawnBar(
  { label, value, p99, kind }: Bar,
  y: number,
  x: (value: number) => number,
): string {
  const width = value > 0 ? Math.max(3, x(value)) : 0;
  const end = Math.max(width, x(p99));
  const middle = y + barHeight / 2;
  return `<text x="${labelWidth - 8}" y="${y + 13}" text-anchor="end">${escaped(label)}</text>` +
    `<rect x="${labelWidth}" y="${y + 2}" width="${width.toFixed(1)}" height="${barHeight - 5}" ` +
    `class="${kind}"/>` +
    (end > width
      ? `<line x1="${(labelWidth + width).toFixed(1)}" y1="${middle}" x2="${
        (labelWidth + end).toFixed(1)
      }" y2="${middle}" class="p99"/>`
      : "") +
    `<text x="${(labelWidth + end + 5).toFixed(1)}" y="${y + 13}">${
      Number(value.toPrecision(3))
    }</text>`;
}

function legend(kinds: ReadonlySet<BarKind>): string {
  let at = 12;
  const parts = [...kinds].map((kind) => {
    const part = `<rect x="${at}" y="33" width="22" height="11" class="${kind}"/>` +
      `<text x="${at + 28}" y="43">${names[kind]}</text>`;
    at += 44 + 7 * names[kind].length;
    return part;
  });
  return parts.join("") +
    `<text x="${at}" y="43">bar: median; line: to p99; less is better; logarithmic</text>`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
