//! The page and what it loads, compiled in.

/// A file of the page.
pub(crate) struct Asset {
    pub name: &'static str,
    pub media_type: &'static str,
    text: &'static str,
    /// Whether the report's style sheet, which figures are drawn with, stands before it.
    styled: bool,
}

/// The page itself has the empty name.
const ASSETS: [Asset; 3] = [
    Asset {
        name: "",
        media_type: "text/html; charset=utf-8",
        text: include_str!("../assets/explore.html"),
        styled: false,
    },
    Asset {
        name: "explore.js",
        media_type: "text/javascript; charset=utf-8",
        text: include_str!("../assets/explore.js"),
        styled: false,
    },
    Asset {
        name: "explore.css",
        media_type: "text/css; charset=utf-8",
        text: include_str!("../assets/explore.css"),
        styled: true,
    },
];

impl Asset {
    /// Its contents.
    pub fn text(&self) -> String {
        let before = if self.styled { lorascope_report::style_sheet() } else { String::new() };
        before + self.text
    }
}

/// The file of that name.
pub(crate) fn asset(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}
