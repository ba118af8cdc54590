// The heat map's colors: cosines from -1 (orange) over 0 (the page) to 1 (blue), for light and dark.

const STOPS = {
  light: [[-1, "#a4480b"], [-0.5, "#eab285"], [-0.15, "#f7efe8"], [0, "#f6f6f3"], [0.35, "#c9d6f7"], [0.7, "#6686e0"], [1, "#24328f"]],
  dark: [[-1, "#ffb37a"], [-0.5, "#8a4b1c"], [-0.15, "#2b2322"], [0, "#1b1e27"], [0.35, "#26376f"], [0.7, "#4f74da"], [1, "#d5e1ff"]],
};

const channels = (hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));

function luminance(rgb) {
  const [r, g, b] = rgb.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// Returns {background, text} for a cosine: black or white text, with a contrast of at least 4.5:1.
export function colors(value, isDark) {
  const stops = isDark ? STOPS.dark : STOPS.light;
  const cosine = Math.min(Math.max(value, -1), 1);
  const above = Math.max(stops.findIndex(([at]) => at >= cosine), 1);
  const [[from, low], [to, high]] = [stops[above - 1], stops[above]];
  const share = (cosine - from) / (to - from);
  const start = channels(low);
  const rgb = channels(high).map((end, i) => Math.round(start[i] + share * (end - start[i])));
  return { background: `rgb(${rgb.join(" ")})`, text: luminance(rgb) > 0.179 ? "#000" : "#fff" };
}

export function drawLegend(canvas, isDark) {
  const pen = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x += 1) {
    pen.fillStyle = colors((2 * x) / (canvas.width - 1) - 1, isDark).background;
    pen.fillRect(x, 0, 1, canvas.height);
  }
}
