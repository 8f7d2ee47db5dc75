// A circuit: the drawing of the program, whose layout it has worked out, with its parts made reachable. A node lights its
// connections and what they lead to; a click pins it.

import type { Box } from "./canvas";
import type { Drawn, Mark, Marks } from "./marks";
import { withInterval } from "./numbers";
import type { Graph, GraphEdge, GraphNode } from "./types";

/** A part of the drawing and the data behind it. */
interface Part {
  mark: Mark;
  element: SVGGElement;
  /** Ids of nodes: itself, or both ends. */
  nodes: string[];
  isEdge: boolean;
  points: { x: number; y: number }[];
}

const REACH = 7;
const SAMPLES = 28;

export interface DrawnGraph extends Drawn {
  /** Lights a part and what hangs on it; undefined lights all. */
  light(mark: Mark | undefined): void;
}

/** `drawing` is the program's SVG of the whole figure; `panels` are the shown ones of it. It must stand in the document
 * when marks are asked for, since only then are its parts' places known. */
export function drawGraph(figure: Graph, drawing: SVGSVGElement, panels: number[]): DrawnGraph {
  const svg = drawing.cloneNode(true) as SVGSVGElement;
  for (const element of svg.querySelectorAll("[id]")) {
    element.removeAttribute("id");
  }
  svg.removeAttribute("aria-labelledby");
  svg.removeAttribute("role");
  // The page's own tip says what these said.
  for (const title of svg.querySelectorAll("title, desc")) {
    title.remove();
  }
  const groups = [...svg.querySelectorAll<SVGGElement>("g.panel")];
  groups.forEach((group, p) => group.classList.toggle("aside", !panels.includes(p)));
  let parts: Part[] | undefined;
  const all = () => {
    parts ??= panels.flatMap((p, i) => partsOf(groups[p], figure.panels[i]?.title ?? "", i, figure.panels[i]));
    return parts;
  };
  return { svg, marks: marksOf(all), light: (mark) => light(all(), mark) };
}

function partsOf(
  group: SVGGElement | undefined,
  title: string,
  panel: number,
  data: { nodes: GraphNode[]; edges: GraphEdge[] } | undefined,
): Part[] {
  if (!group || !data) {
    return [];
  }
  const elements = (name: string) =>
    new Map([...group.querySelectorAll<SVGGElement>(`g.${name}`)].map((g) => [Number(g.dataset.index), g]));
  const [nodes, edges] = [elements("node"), elements("edge")];
  const named = (name: string, change: string | null) => [title, name, change].filter(Boolean).join(", ");
  const nodeParts = data.nodes.flatMap((node, col): Part[] => {
    const element = nodes.get(col);
    if (!element) {
      return [];
    }
    const value = node.weight === null ? "no weight" : withInterval(node.weight, node.interval?.[0], node.interval?.[1]);
    const name = named(node.id, node.change);
    return [{ mark: { panel, row: 0, col, box: boxOf(element), name, value }, element, nodes: [node.id], isEdge: false, points: [] }];
  });
  const edgeParts = data.edges.flatMap((edge, col): Part[] => {
    const element = edges.get(col);
    if (!element) {
      return [];
    }
    const points = pointsOf(element);
    const middle = points[points.length >> 1] ?? { x: 0, y: 0 };
    const box = { x: middle.x - 4, y: middle.y - 4, width: 8, height: 8 };
    const input = edge.input ? ` (${edge.input})` : "";
    const value = edge.weight === null ? "no weight" : withInterval(edge.weight, edge.interval?.[0], edge.interval?.[1]);
    const name = named(`${edge.from} → ${edge.to}${input}`, edge.change);
    return [{ mark: { panel, row: 1, col, box, name, value }, element, nodes: [edge.from, edge.to], isEdge: true, points }];
  });
  return [...nodeParts, ...edgeParts];
}

function boxOf(element: SVGGElement): Box {
  const { x, y, width, height } = element.getBBox();
  return { x, y, width, height };
}

function pointsOf(element: SVGGElement): { x: number; y: number }[] {
  const path = element.querySelector("path");
  if (!path) {
    return [];
  }
  const length = path.getTotalLength();
  return Array.from({ length: SAMPLES + 1 }, (_, i) => path.getPointAtLength((length * i) / SAMPLES));
}

function marksOf(all: () => Part[]): Marks {
  return {
    at(x, y) {
      const parts = all();
      const inside = ({ box }: Mark) => x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height;
      const node = parts.find((part) => !part.isEdge && inside(part.mark));
      if (node) {
        return node.mark;
      }
      let best: Part | undefined;
      let least = REACH;
      for (const part of parts) {
        for (const point of part.points) {
          const away = Math.hypot(point.x - x, point.y - y);
          if (away < least) {
            [best, least] = [part, away];
          }
        }
      }
      return best?.mark;
    },
    // The order of the data: nodes by layer, then edges; up and down go from nodes to edges and back.
    step(from, dx, dy) {
      const parts = all();
      if (!from) {
        return parts[0]?.mark;
      }
      const at = parts.findIndex(({ mark }) => mark.panel === from.panel && mark.row === from.row && mark.col === from.col);
      if (dy === 0) {
        return (parts[at + dx] ?? parts[at])?.mark;
      }
      const here = parts[at];
      const touching = parts.filter((part) => part.isEdge !== here?.isEdge && part.mark.panel === from.panel && part.nodes.some((id) => here?.nodes.includes(id)));
      return (dy > 0 ? touching[0] : touching.at(-1))?.mark ?? from;
    },
  };
}

function light(parts: Part[], mark: Mark | undefined): void {
  const lit = parts.find((part) => part.mark === mark);
  const reached = new Set(lit?.nodes ?? []);
  if (lit && !lit.isEdge) {
    for (const part of parts) {
      if (part.isEdge && part.mark.panel === lit.mark.panel && part.nodes.includes(lit.nodes[0] ?? "")) {
        part.nodes.forEach((id) => reached.add(id));
      }
    }
  }
  for (const part of parts) {
    const samePanel = part.mark.panel === lit?.mark.panel;
    const isLit = lit?.isEdge ? part === lit : part.nodes.includes(lit?.nodes[0] ?? "");
    const keeps = !lit || (samePanel && (part.isEdge ? isLit : part.nodes.every((id) => reached.has(id))));
    part.element.classList.toggle("dimmed", !keeps);
  }
}
