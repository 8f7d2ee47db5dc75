//! The page's style sheet: fonts, both themes' colours, and rules.

use std::fmt::Write;

use crate::downloads::data_uri;
use crate::figure::ColorKey;
use crate::fonts;
use crate::theme::Theme;

const RULES: [&str; 2] =
    [include_str!("../templates/page.css"), include_str!("../templates/interactive.css")];

/// The style sheet of the report, for other pages that draw figures: with fonts and both themes' colours put in.
pub fn style_sheet() -> String {
    let mut style = String::new();
    for (weight, bytes) in [400, 600].into_iter().zip(fonts::WEB) {
        let uri = data_uri("font/woff2", bytes);
        // Writing into a String can't fail.
        let _ = writeln!(
            style,
            r#"@font-face{{font-family:"{}";font-weight:{weight};src:url({uri}) format("woff2")}}"#,
            fonts::MAIN_FAMILY
        );
    }
    let (light, dark) = (Theme::default(), Theme::dark());
    let dark = variables(&dark);
    let _ = writeln!(style, ":root{{color-scheme:light;{}}}", variables(&light));
    // The reader's own choice, which the script notes at the root, goes before that of the system.
    let _ = writeln!(
        style,
        "@media screen{{:root[data-theme=dark]{{color-scheme:dark;{dark}}}}}\n\
         @media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}"
    );
    for name in paint_names(&light) {
        let _ = writeln!(
            style,
            "svg .fill-{name}{{fill:var(--{name})}}svg .stroke-{name}{{stroke:var(--{name})}}.swatch-{name}{{--own:var(--{name})}}"
        );
    }
    RULES.iter().for_each(|rules| style.push_str(rules));
    style
}

/// Names of the theme's colours, as classes of drawings and as variables of the style sheet.
fn paint_names(theme: &Theme) -> Vec<String> {
    let fixed = ["ink", "muted", "grid", "paper", "base"].map(str::to_owned);
    fixed.into_iter().chain((0..theme.models.len()).map(|index| format!("c{index}"))).collect()
}

fn variables(theme: &Theme) -> String {
    let colors = [theme.ink, theme.muted, theme.grid, theme.paper, theme.color(ColorKey::Base)];
    let colors = colors.into_iter().chain(theme.models.iter().copied());
    paint_names(theme).iter().zip(colors).map(|(name, color)| format!("--{name}:{color};")).collect()
}
