//! What the values of a hook point look like as an array: `[batch, position, …]`, or `[batch, head, query, key]`.

use lorascope_engine::{HookPoint, Model, ModelSpec, Site, Width};

/// A row's place in an array: sequence, position, and the length of all sequences.
pub(crate) type Cell = (usize, usize, usize);

/// The dimensions of a point after batch and position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The same in every row.
    Fixed(Vec<usize>),
    /// One number per head and key: the array is `[batch, heads, query, key]`.
    PerKey(usize),
}

impl Shape {
    /// The shape of a point in rows of a model.
    pub fn of(model: &Model<f32>, which: usize, point: HookPoint) -> Result<Self, lorascope_engine::Error> {
        let spec = model.spec();
        let width = match point.width(spec)? {
            Width::PerKey(heads) => return Ok(Shape::PerKey(heads)),
            Width::Fixed(width) => width,
            Width::Rank => rank(model, which, point).ok_or_else(|| {
                let why = format!("model {} has no adapter there", model.name(which));
                lorascope_engine::Error::NoSuchHookPoint { point: point.to_string(), why }
            })?,
        };
        Ok(Shape::Fixed(match heads(spec, point) {
            Some(heads) => vec![heads, width / heads],
            None => vec![width],
        }))
    }

    /// Numbers of a row at a position.
    pub fn width(&self, position: usize) -> usize {
        match self {
            Shape::Fixed(dims) => dims.iter().product(),
            Shape::PerKey(heads) => heads * (position + 1),
        }
    }

    /// The array of so many sequences of a length.
    pub fn array(&self, batch: usize, length: usize) -> Vec<usize> {
        match self {
            Shape::Fixed(dims) => [&[batch, length], &dims[..]].concat(),
            Shape::PerKey(heads) => vec![batch, *heads, length, length],
        }
    }

    /// Writes the values of a row into such an array.
    pub fn scatter(&self, (sequence, position, length): Cell, mut row: &[f32], array: &mut [f32]) {
        for (at, n) in self.parts(sequence, position, length) {
            let part;
            (part, row) = row.split_at(n);
            array[at..at + n].copy_from_slice(part);
        }
    }

    /// Reads the values of a row from such an array.
    pub fn gather(&self, (sequence, position, length): Cell, array: &[f32], mut row: &mut [f32]) {
        for (at, n) in self.parts(sequence, position, length) {
            let part;
            (part, row) = row.split_at_mut(n);
            part.copy_from_slice(&array[at..at + n]);
        }
    }

    /// Where the parts of a row lie in such an array: offset, and how many numbers follow one another there.
    fn parts(&self, sequence: usize, position: usize, length: usize) -> Vec<(usize, usize)> {
        match self {
            Shape::Fixed(_) => {
                let width = self.width(position);
                vec![((sequence * length + position) * width, width)]
            }
            Shape::PerKey(heads) => (0..*heads)
                .map(|head| (((sequence * heads + head) * length + position) * length, position + 1))
                .collect(),
        }
    }
}

/// What stands where a query has no key: what a masked score is.
pub(crate) fn fill(point: HookPoint) -> f32 {
    match point {
        HookPoint::Layer(_, Site::AttnScores) => f32::NEG_INFINITY,
        _ => 0.0,
    }
}

/// Heads of a point whose values lie head by head.
fn heads(spec: &ModelSpec, point: HookPoint) -> Option<usize> {
    let HookPoint::Layer(_, site) = point else { return None };
    match site {
        Site::Q | Site::RotQ | Site::Z | Site::Result | Site::QInput | Site::LoraResult => Some(spec.n_heads),
        Site::K | Site::V | Site::RotK | Site::KInput | Site::VInput => Some(spec.n_kv_heads),
        _ => None,
    }
}

/// The rank of a model's update at a low-rank point.
fn rank(model: &Model<f32>, which: usize, point: HookPoint) -> Option<usize> {
    let HookPoint::Layer(layer, Site::LoraA(module)) = point else { return None };
    which.checked_sub(1).and_then(|i| model.adapters().get(i))?.rank(layer, module)
}

/// Hook points of a model, those of low-rank updates only where it has one, in the order of the pass.
pub(crate) fn points(model: &Model<f32>, which: usize) -> Vec<HookPoint> {
    let adapter = which.checked_sub(1).and_then(|i| model.adapters().get(i));
    let updated = |layer, module| adapter.is_some_and(|a| a.rank(layer, module).is_some());
    let has = |point: &HookPoint| match *point {
        HookPoint::Layer(layer, Site::LoraA(module) | Site::LoraOut(module)) => updated(layer, module),
        HookPoint::Layer(layer, Site::LoraResult) => updated(layer, lorascope_engine::Module::O),
        _ => true,
    };
    HookPoint::all(model.spec()).into_iter().filter(has).collect()
}
