//! Similarity by prompt.

use super::measure::between_models;
use crate::statistics::Design;
use lorascope_engine::Mat;

fn design() -> Design {
    Design::new(&["a", "a", "b", "c"], 0)
}

#[test]
fn a_model_is_like_itself_exactly() {
    let data = (0..4 * 33).map(|i| f64::from(((i * i) as f32 * 0.37).sin())).collect();
    let states = Mat { data, rows: 4, cols: 33 };
    let [cosine, norm] = between_models(&states, &states, &design()).map(|i| i.expect("defined"));
    assert_eq!([cosine.mean, cosine.lo, cosine.hi], [1.0; 3]);
    assert_eq!([norm.mean, norm.lo, norm.hi], [0.0; 3]);
}

#[test]
fn small_cases_by_hand() {
    let own = Mat { data: vec![1.0, 0.0, 3.0, 4.0, 0.0, 2.0, -1.0, 0.0], rows: 4, cols: 2 };
    let other = Mat { data: vec![0.0, 1.0, 6.0, 8.0, 0.0, 2.0, 1.0, 0.0], rows: 4, cols: 2 };
    let [cosine, norm] = between_models(&own, &other, &design()).map(|i| i.expect("defined").mean);
    assert!((cosine - (0.0 + 1.0 + 1.0 - 1.0) / 4.0).abs() < 1e-15);
    assert!((norm - (2f64.sqrt() + 0.5 + 0.0 + 2.0) / 4.0).abs() < 1e-15);
    let none = Mat::zeros(4, 2);
    assert_eq!(between_models(&own, &none, &design()), [None, None], "nothing is like a zero vector");
}
