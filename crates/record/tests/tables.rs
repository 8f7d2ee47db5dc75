//! Tables: what they refuse, and that CSV and Parquet hold the same rows, bit for bit and byte for byte.

#![allow(clippy::unwrap_used, reason = "a helper of these tests may fail them")]

use lorascope_record::{Cell, ColumnKind, ColumnSpec, Error, Table, TableSpec, row};

const fn column(name: &'static str, kind: ColumnKind, unit: &'static str) -> ColumnSpec {
    ColumnSpec { name, kind, unit, doc: "A test column | with a bar." }
}

const SPEC: TableSpec = TableSpec {
    name: "lens",
    doc: "One row per model, prompt and layer.",
    columns: &[
        column("model", ColumnKind::Text, ""),
        column("layer", ColumnKind::Int, ""),
        column("delta", ColumnKind::Float, "nat"),
        column("recovery", ColumnKind::FloatOrNull, ""),
        column("flipped", ColumnKind::Bool, ""),
        column("note", ColumnKind::TextOrNull, ""),
    ],
};

/// Floats whose printed form is hard: subnormal, negative zero, neighbours of 0.1, the largest.
const HARD_FLOATS: [f64; 8] =
    [5e-324, -0.0, 0.1, 0.100_000_000_000_000_02, f64::MAX, f64::MIN_POSITIVE, -1e-7, 123_456_789.123_456_79];

fn hard_table() -> Table {
    let mut table = Table::new(&SPEC);
    for (layer, value) in HARD_FLOATS.into_iter().enumerate() {
        let note = (layer % 2 == 0).then_some("comma, \"quote\"\nline é <script>");
        let recovery = (layer % 3 == 0).then_some(-value);
        table.push(&row!["base", layer, value, recovery, layer % 2 == 1, note]).unwrap();
    }
    table
}

#[test]
fn what_goes_in_comes_out() {
    let table = hard_table();
    assert_eq!(table.n_rows(), 8);
    assert_eq!(table.ints("layer").unwrap(), (0..8).collect::<Vec<i64>>());
    assert_eq!(table.floats("delta").unwrap(), HARD_FLOATS);
    assert_eq!(table.bools("flipped").unwrap()[..3], [false, true, false]);
    assert_eq!(table.texts("model").unwrap(), ["base"; 8]);
    assert_eq!(table.floats_or_null("recovery").unwrap()[..2], [Some(-5e-324), None]);
    assert_eq!(table.row_key(2), "model=base, layer=2");
}

#[test]
fn parquet_reads_back_to_the_same_rows() {
    let table = hard_table();
    let back = Table::from_parquet(&SPEC, &table.to_parquet().unwrap()).unwrap();
    assert_eq!(back, table);
    let bits = |table: &Table| table.floats("delta").unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back), bits(&table), "equality alone can't tell -0.0 from 0.0");
}

#[test]
fn csv_reads_back_to_the_same_rows() {
    let table = hard_table();
    let bytes = table.to_csv().unwrap();
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    assert_eq!(reader.headers().unwrap(), vec!["model", "layer", "delta", "recovery", "flipped", "note"]);
    let mut back = Table::new(&SPEC);
    for record in reader.records() {
        let record = record.unwrap();
        let null_or = |at: usize| (!record[at].is_empty()).then(|| record[at].to_owned());
        let recovery = null_or(3).map(|text| text.parse::<f64>().unwrap());
        let layer: i64 = record[1].parse().unwrap();
        let delta: f64 = record[2].parse().unwrap();
        let flipped: bool = record[4].parse().unwrap();
        back.push(&row![&record[0], layer, delta, recovery, flipped, null_or(5)]).unwrap();
    }
    assert_eq!(back, table);
    assert!(String::from_utf8(bytes).unwrap().contains("\nbase,1,-0.0,,true,\n"));
}

#[test]
fn equal_rows_give_equal_bytes() {
    let (csv, parquet) = (hard_table().to_csv().unwrap(), hard_table().to_parquet().unwrap());
    for _ in 0..50 {
        assert_eq!(hard_table().to_csv().unwrap(), csv);
        assert_eq!(hard_table().to_parquet().unwrap(), parquet, "a hash map's order must not show");
    }
}

#[test]
fn an_empty_table_keeps_its_columns() {
    let table = Table::new(&SPEC);
    assert_eq!(table.to_csv().unwrap(), b"model,layer,delta,recovery,flipped,note\n");
    assert_eq!(Table::from_parquet(&SPEC, &table.to_parquet().unwrap()).unwrap(), table);
}

#[test]
fn a_row_of_the_wrong_length_is_refused() {
    let error = Table::new(&SPEC).push(&row!["base", 1]).unwrap_err();
    assert_eq!(error.to_string(), "table `lens`: a row of 2 cells for 6 columns");
}

#[test]
fn a_cell_of_the_wrong_type_is_refused_and_nothing_is_added() {
    let mut table = Table::new(&SPEC);
    let error = table.push(&row!["base", 1, 2, None::<f64>, true, None::<&str>]).unwrap_err();
    let expected = "table `lens`, column `delta`, row model=base, layer=1: `int 2` given, float expected";
    assert_eq!(error.to_string(), expected);
    let too_large = table.push(&row!["base", u64::MAX, 2.0, None::<f64>, true, None::<&str>]).unwrap_err();
    assert!(too_large.to_string().contains("`int 18446744073709551615` given"), "{too_large}");
    assert_eq!(table, Table::new(&SPEC));
}

#[test]
fn what_is_not_a_number_is_refused_and_named() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = Table::new(&SPEC).push(&row!["my model", 7, value, 1.0, true, "x"]).unwrap_err();
        let Error::NotFinite { table, column, row, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*table, *column, row.as_str()), ("lens", "delta", "model=my model, layer=7"));
    }
}

#[test]
fn nan_is_null_where_null_is_allowed_but_infinity_is_not() {
    let mut table = Table::new(&SPEC);
    table.push(&row!["base", 0, 1.0, f32::NAN, true, "x"]).unwrap();
    assert_eq!(table.floats_or_null("recovery").unwrap(), [None]);
    assert!(matches!(table.floats("recovery"), Err(Error::UnexpectedNull { column: "recovery", .. })));
    let error = table.push(&row!["base", 1, 1.0, f64::INFINITY, true, "x"]).unwrap_err();
    assert!(matches!(error, Error::NotFinite { column: "recovery", .. }), "{error:?}");
}

#[test]
fn null_is_refused_where_it_is_not_allowed() {
    let error = Table::new(&SPEC).push(&row![None::<String>, 0, 1.0, 1.0, true, "x"]).unwrap_err();
    assert!(matches!(error, Error::UnexpectedNull { column: "model", .. }), "{error:?}");
    let error = Table::new(&SPEC).push(&[const { Cell::Null }; 6]).unwrap_err();
    assert!(matches!(error, Error::UnexpectedNull { .. }), "{error:?}");
}

#[test]
fn an_unknown_column_is_named_with_those_there_are() {
    let error = hard_table().floats("Delta").unwrap_err().to_string();
    assert!(error.starts_with("table `lens` has no float column `Delta`; its columns are: model (text), "));
    assert!(matches!(hard_table().texts("delta"), Err(Error::NoSuchColumn { wanted: "text", .. })));
}

#[test]
fn appending_and_sorting() {
    let row_of = |model: &str, layer: usize, delta: f64| row![model, layer, delta, 0.0, true, "x"];
    let (mut late, mut early) = (Table::new(&SPEC), Table::new(&SPEC));
    late.push(&row_of("b", 10, 1.0)).unwrap();
    late.push(&row_of("b", 9, 2.0)).unwrap();
    early.push(&row_of("a", 11, 3.0)).unwrap();
    early.push(&row_of("b", 9, 1.5)).unwrap();
    late.append(early).unwrap();
    late.sort_by_keys();
    assert_eq!(late.texts("model").unwrap(), ["a", "b", "b", "b"]);
    assert_eq!(late.ints("layer").unwrap(), [11, 9, 9, 10], "by number, not by digits");
    assert_eq!(late.floats("delta").unwrap(), [3.0, 2.0, 1.5, 1.0], "stable where keys are equal");

    const OTHER: TableSpec = TableSpec { name: "other", ..SPEC };
    let error = late.append(Table::new(&OTHER)).unwrap_err();
    assert!(matches!(error, Error::SpecMismatch { to: "lens", from: "other" }));
}

#[test]
fn parquet_of_another_table_is_refused() {
    const FEWER: TableSpec = TableSpec { columns: SPEC.columns.split_at(2).0, ..SPEC };
    let error = Table::from_parquet(&FEWER, &hard_table().to_parquet().unwrap()).unwrap_err();
    assert!(matches!(error, Error::WrongParquet { .. }), "{error:?}");
    let mut cut = hard_table().to_parquet().unwrap();
    cut.truncate(cut.len() / 2);
    assert!(matches!(Table::from_parquet(&SPEC, &cut), Err(Error::Parquet { .. })));
}

#[test]
fn documentation_is_generated_from_the_declaration() {
    let text = SPEC.markdown();
    assert!(text.starts_with("### `lens`\n\nOne row per model, prompt and layer.\n\n| column | type |"));
    assert!(text.contains("\n| `delta` | float | nat | A test column \\| with a bar. |\n"));
    assert!(text.contains("\n| `recovery` | float or null |  | "));
    assert_eq!(SPEC.problems(), Vec::<String>::new());

    const BAD: TableSpec = TableSpec { name: "a/b", doc: "", columns: &[SPEC.columns[0], SPEC.columns[0]] };
    assert_eq!(BAD.problems().len(), 3, "{:?}", BAD.problems());
}
