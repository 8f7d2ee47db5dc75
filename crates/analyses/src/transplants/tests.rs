//! What needs no prompts; transplants are tested through the program.

use super::matrix::{Group, groups};
use super::settings::{Groups, Settings};
use crate::mixtures::tests::with_two;

#[test]
fn groups_cover_every_module_once() {
    let Some(model) = with_two("llama") else { return };
    let adapters: Vec<_> = model.adapters().iter().collect();
    let of = |kind: Groups, spans: usize| {
        let settings = Settings { groups: kind, spans, ..Settings::default() };
        groups(&settings, &adapters, model.spec().n_layers)
    };
    let all: Vec<_> = model.adapters()[0].adapted().collect();
    for kind in [Groups::Module, Groups::Kind, Groups::Layer, Groups::Auto] {
        let mut places: Vec<_> = of(kind, 6).into_iter().flat_map(|g| g.places).collect();
        places.sort_unstable();
        assert_eq!(places, all, "{kind:?}");
    }
    let labels: Vec<String> = of(Groups::Span, 2).iter().map(Group::label).collect();
    assert_eq!(labels, ["L0-1", "L2-3", "L0-3 attention", "L0-3 mlp"]);
    let labels: Vec<String> = of(Groups::Kind, 2).iter().map(Group::label).collect();
    assert_eq!(labels[..3], ["L0 attention", "L0 mlp", "L1 attention"]);
}
