//! The page and what it loads, compiled in.

/// A file of the page: name, media type, contents.
pub(crate) struct Asset {
    pub name: &'static str,
    pub media_type: &'static str,
    pub bytes: &'static [u8],
}

/// The page itself has the empty name.
pub(crate) const ASSETS: [Asset; 3] = [
    Asset {
        name: "",
        media_type: "text/html; charset=utf-8",
        bytes: include_bytes!("../assets/explore.html"),
    },
    Asset {
        name: "explore.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../assets/explore.js"),
    },
    Asset {
        name: "explore.css",
        media_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../assets/explore.css"),
    },
];

/// The file of that name.
pub(crate) fn asset(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}
