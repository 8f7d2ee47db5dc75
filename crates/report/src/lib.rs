//! From results to pictures and a page: figures as data, drawn once, as SVG and PNG; and one HTML file.
//!
//! A [`Figure`] says what is shown, not how; [`render_svg`] draws it in the one [`Theme`], [`render_png`]
//! rasterises that very drawing ([`render_pdf`] keeps it as lines and text), and [`render_html`] puts drawings, small tables and text into a single
//! file that needs no network. It computes no statistics: intervals come with the data.

mod attention;
mod bars;
mod by_prompt;
mod canvas;
mod color;
mod colorbar;
mod downloads;
mod error;
mod figure;
mod fonts;
mod frame;
mod graph;
mod heatmap;
mod horizontal_bars;
mod legend;
mod lines;
mod page;
mod raster;
mod render;
mod scale;
mod script;
mod style;
mod theme;
mod verdicts;

pub use attention::{AttentionPrompt, AttentionRows, pack_weights};
pub use by_prompt::{ByPrompt, Cell};
pub use color::{Rgb, diverging, sequential};
pub use downloads::figure_csv;
pub use error::{Error, Result};
pub use figure::{
    BarPanel, BarSeries, ColorKey, Figure, FigureKind, HeatmapPanel, HeatmapScale, LinePanel, Series,
};
pub use graph::{Change, GraphEdge, GraphNode, GraphPanel, GraphPlace, HeadInput};
pub use page::{
    Page, PromptText, ProvenanceItem, Section, SummaryColumn, SummaryTable, TableFile, render_html,
};
pub use raster::{PNG_SCALE, render_pdf, render_png};
pub use render::{figure_files, render_svg};
pub use style::style_sheet;
pub use theme::Theme;
pub use verdicts::{Excerpt, Verdict, VerdictKind};
