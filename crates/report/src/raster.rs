//! SVG to PNG and PDF, with the embedded fonts and no others, so that files are the same on every machine.

use std::sync::{Arc, OnceLock};

use flate2::Crc;
use krilla::Document;
use krilla::geom::Size;
use krilla::metadata::Metadata;
use krilla::page::PageSettings;
use krilla_svg::{SurfaceExt, SvgSettings};
use resvg::{tiny_skia, usvg};

use crate::error::{Error, Result};
use crate::fonts;

/// Dots of the PNG per CSS pixel: 300 dots to the inch.
pub const PNG_SCALE: f32 = 300.0 / 96.0;

/// Points of a PDF to the CSS pixel: 72 and 96 to the inch.
const POINTS: f32 = 72.0 / 96.0;

/// Largest side of a PNG; a drawing beyond it is an error of the caller, not a reason to take all memory.
const LARGEST_SIDE: f32 = 20_000.0;

/// Rasterises an SVG file at [`PNG_SCALE`].
///
/// # Errors
/// [`Error::Raster`] if it isn't a drawing, or is too large.
pub fn render_png(svg: &str) -> Result<Vec<u8>> {
    let tree = read(svg)?;
    let (width, height) =
        ((tree.size().width() * PNG_SCALE).ceil(), (tree.size().height() * PNG_SCALE).ceil());
    if width > LARGEST_SIDE || height > LARGEST_SIDE {
        return Err(failed(format!("`{width}` by `{height}` dots is more than {LARGEST_SIDE} on a side")));
    }
    let mut pixmap = tiny_skia::Pixmap::new(width as u32, height as u32)
        .ok_or_else(|| failed("it has no area".to_owned()))?;
    let scale = tiny_skia::Transform::from_scale(PNG_SCALE, PNG_SCALE);
    resvg::render(&tree, scale, &mut pixmap.as_mut());
    let png = pixmap.encode_png().map_err(|error| failed(error.to_string()))?;
    Ok(with_resolution(png))
}

/// The PNG with the chunk that says how many dots it has to the inch, for programs that place it by its size.
fn with_resolution(mut png: Vec<u8>) -> Vec<u8> {
    /// Signature and header come first in every PNG.
    const HEAD: usize = 8 + 25;
    let per_metre = ((PNG_SCALE * 96.0 / 0.0254).round() as u32).to_be_bytes();
    let body = [b"pHYs".as_slice(), &per_metre, &per_metre, &[1]].concat();
    let mut crc = Crc::new();
    crc.update(&body);
    let chunk = [&9_u32.to_be_bytes(), body.as_slice(), &crc.sum().to_be_bytes()].concat();
    let head = HEAD.min(png.len());
    png.splice(head..head, chunk);
    png
}

/// An SVG file as a PDF of one page of its size, with text as text in embedded fonts; equal drawings give equal bytes.
///
/// # Errors
/// [`Error::Raster`] if it isn't a drawing.
pub fn render_pdf(svg: &str, title: &str) -> Result<Vec<u8>> {
    let tree = read(svg)?;
    let (width, height) = (tree.size().width() * POINTS, tree.size().height() * POINTS);
    let no_area = || failed("it has no area".to_owned());
    let size = Size::from_wh(width, height).ok_or_else(no_area)?;
    let mut document = Document::new();
    document.set_metadata(Metadata::new().title(title.to_owned()).creator("lorascope".to_owned()));
    let mut page = document.start_page_with(PageSettings::from_wh(width, height).ok_or_else(no_area)?);
    let mut surface = page.surface();
    surface.draw_svg(&tree, size, SvgSettings::default()).ok_or_else(no_area)?;
    surface.finish();
    page.finish();
    document.finish().map_err(|error| failed(format!("{error:?}")))
}

fn read(svg: &str) -> Result<usvg::Tree> {
    let options = usvg::Options {
        fontdb: font_database(),
        font_family: fonts::MAIN_FAMILY.to_owned(),
        ..usvg::Options::default()
    };
    usvg::Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))
}

fn failed(problem: String) -> Error {
    Error::Raster { problem }
}

fn font_database() -> Arc<usvg::fontdb::Database> {
    static DATABASE: OnceLock<Arc<usvg::fontdb::Database>> = OnceLock::new();
    let load = || {
        let mut database = usvg::fontdb::Database::new();
        for font in fonts::ALL {
            database.load_font_data(font.to_vec());
        }
        database.set_sans_serif_family(fonts::MAIN_FAMILY);
        Arc::new(database)
    };
    Arc::clone(DATABASE.get_or_init(load))
}
