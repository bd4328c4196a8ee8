// A bar chart as SVG, on a logarithmic scale, readable on light and dark.

/** One bar. */
export interface Bar {
  readonly label: string;
  readonly value: number;
  /** This library's, or a peer's. */
  readonly ours: boolean;
}

const barHeight = 18;
const labelWidth = 360;
const scaleWidth = 440;
const top = 44;

/** Draws bars; a value of 0 has none. */
export function chart(title: string, bars: readonly Bar[]): string {
  const values = bars.map(({ value }) => value).filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  const x = (value: number) => ((Math.log10(value) - low) / (high - low)) * scaleWidth;
  const height = top + bars.length * barHeight + 10;
  const marks = Array.from({ length: high - low + 1 }, (_, nth) => {
    const at = labelWidth + x(10 ** (low + nth));
    return `<line x1="${at}" y1="${top - 6}" x2="${at}" y2="${height - 10}" class="mark"/>` +
      `<text x="${at}" y="${top - 10}" text-anchor="middle">${10 ** (low + nth)}</text>`;
  });
  const drawn = bars.map(({ label, value, ours }, nth) => {
    const y = top + nth * barHeight;
    const width = value > 0 ? Math.max(2, x(value)) : 0;
    return `<text x="${labelWidth - 8}" y="${y + 13}" text-anchor="end">${escaped(label)}</text>` +
      `<rect x="${labelWidth}" y="${y + 2}" width="${width.toFixed(1)}" height="${
        barHeight - 5
      }" ` +
      `class="${ours ? "ours" : "peer"}"/>` +
      `<text x="${labelWidth + width + 5}" y="${y + 13}">${value}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${
      labelWidth + scaleWidth + 80
    } ${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    "<style>text{font:12px sans-serif;fill:#777}.title{font-weight:bold}.mark{stroke:#7774}" +
    ".ours{fill:#2a7de1}.peer{fill:#999}</style>",
    `<text x="8" y="18" class="title">${escaped(title)} (logarithmic; blue: this library)</text>`,
    ...marks,
    ...drawn,
    "</svg>\n",
  ].join("\n");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
