//! Calls a careless or hostile plugin could make: any op, any operands, any attributes. The answer is a node or an
//! error, never a panic; what was accepted has a gradient graph and a reference value of the inferred shape.

use diffx::base::{DType, Desc};
use diffx::graph::attr::Value;
use diffx::graph::op::AttrKind;
use diffx::graph::reference::{self, RefTensor};
use diffx::graph::{AttrKey, Attrs, Class, Graph, NodeId, OPS, OpInfo, WeightInit};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

const INTS: &[i64] = &[
    0,
    1,
    2,
    3,
    4,
    -1,
    -2,
    7,
    25,
    i64::MIN,
    i64::MAX,
    i32::MIN as i64,
    i32::MAX as i64,
    1 << 40,
    -(1 << 40),
];
const FLOATS: &[f64] =
    &[0.0, 1.0, -0.5, 1e-6, 0.5, 3.0, 1e300, -1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
const SHAPES: &[&[usize]] = &[
    &[],
    &[1],
    &[2],
    &[2, 3],
    &[3, 2],
    &[2, 2, 3],
    &[2, 4, 3, 3],
    &[4, 2, 3],
    &[0, 3],
    &[2, 1, 1, 1, 1, 1, 1, 2],
    &[1 << 40, 3],
];

fn hostile_value(random: &mut Random, kind: AttrKind) -> Value {
    // small values more often, or nothing would pass
    let int = |random: &mut Random| {
        let top = if random.one_in(4) { INTS.len() } else { 6 };
        INTS[random.below(top)]
    };
    match kind {
        AttrKind::Int => Value::Int(int(random)),
        AttrKind::Float => Value::Float(random.pick(FLOATS)),
        AttrKind::Ints => {
            let length = if random.one_in(20) { 100 } else { random.below(5) };
            Value::Ints((0..length).map(|_| int(random)).collect())
        }
    }
}

fn hostile_attrs(random: &mut Random, info: &OpInfo) -> Attrs {
    let mut attrs = Attrs::NONE;
    for key in info.required.iter().chain(info.optional) {
        if info.required.contains(key) && random.one_in(50) {
            continue;
        }
        if info.required.contains(key) || random.one_in(2) {
            let kind = if random.one_in(100) { AttrKind::Ints } else { key.kind() };
            attrs.set(*key, hostile_value(random, kind));
        }
    }
    if random.one_in(50) {
        let key = random.pick(AttrKey::ALL);
        attrs.set(key, hostile_value(random, key.kind()));
    }
    attrs
}

fn start(random: &mut Random) -> (Graph, Vec<NodeId>) {
    let mut g = Graph::new(2, random.pick(&[DType::F32, DType::F64]));
    let mut pool = Vec::new();
    let float = g.float();
    for i in 0..8 {
        let dtype = if random.one_in(3) { random.pick(DType::ALL) } else { float };
        let top = if random.one_in(10) { SHAPES.len() } else { 8 };
        let desc = Desc::new(dtype, SHAPES[random.below(top)]).expect("a legal shape");
        pool.push(match i % 4 {
            0 => g.weight(&format!("w{i}"), desc, WeightInit::Zeros),
            _ => g.input(&format!("x{i}"), desc),
        });
    }
    pool.push(g.scalar(0.5));
    (g, pool)
}

fn bounded(g: &Graph) -> bool {
    g.nodes().iter().all(|node| node.desc.shape.elements() < 10_000)
}

#[test]
fn random_calls_never_panic() {
    let mut random = Random(0x5eed_1234_abcd_0001);
    let (mut emits, mut accepted, mut gradients) = (0, 0, 0);
    while emits < 60_000 {
        let (mut g, mut pool) = start(&mut random);
        while !g.has_failed() && pool.len() < 12 {
            let info = &OPS[random.below(OPS.len())];
            let arity = info.arity.0 + random.below(info.arity.1.min(4) - info.arity.0.min(3) + 1);
            let arity = if random.one_in(60) { random.below(70) } else { arity };
            let inputs: Vec<NodeId> = (0..arity)
                .map(|_| {
                    if random.one_in(200) {
                        return NodeId(random.next() as u32);
                    }
                    random.pick(&pool)
                })
                .collect();
            let attrs = hostile_attrs(&mut random, info);
            let id = g.emit(info.op, &inputs, attrs);
            emits += 1;
            if !g.has_failed() {
                accepted += 1;
                assert!(g.is_valid(id), "{}", info.name);
                pool.push(id);
            }
        }
        if g.has_failed() {
            assert_eq!(g.scalar(1.0), NodeId::ERROR);
            continue;
        }
        let y = pool[pool.len() - 1];
        let one = g.scalar(1.0);
        let xs: Vec<NodeId> = (0..2).map(|_| random.pick(&pool)).collect();
        let found = g.grad(y, one, &xs);
        let t = g.jvp(y, &xs, &[one, one]);
        if !g.has_failed() {
            gradients += 1;
            assert_eq!(g.desc(found[0]).shape, g.desc(xs[0]).shape);
            assert_eq!(g.desc(t).shape, g.desc(y).shape);
        }
    }
    assert!(accepted > emits / 20, "{accepted} of {emits} were accepted: the test is too wild");
    assert!(gradients > 0, "no chain of calls came through");
}

/// The same with one call per graph, so that failures do not end what could be reached, and a look at the values.
#[test]
fn accepted_calls_have_gradients_and_values() {
    let mut random = Random(0x5eed_1234_abcd_0002);
    let (mut accepted, mut evaluated, mut differentiated) = (0, 0, 0);
    for round in 0..20_000 {
        let (mut g, pool) = start(&mut random);
        let info = &OPS[round % OPS.len()];
        let arity =
            info.arity.0 + random.below(info.arity.1.min(4).saturating_sub(info.arity.0) + 1);
        let inputs: Vec<NodeId> = (0..arity).map(|_| random.pick(&pool)).collect();
        let attrs = hostile_attrs(&mut random, info);
        let y = g.emit(info.op, &inputs, attrs);
        if g.has_failed() {
            continue;
        }
        accepted += 1;
        let mut outputs = vec![y];
        if g.desc(y).dtype.is_float() && bounded(&g) {
            let one = g.scalar(1.0);
            let floats: Vec<NodeId> =
                inputs.iter().copied().filter(|x| g.desc(*x).dtype.is_float()).collect();
            let found = g.grad(y, one, &floats);
            if info.class != Class::Meta {
                g.check().unwrap_or_else(|e| panic!("{}: {e}", info.name));
            }
            if !g.has_failed() {
                differentiated += 1;
                outputs.extend(found);
            }
        }
        if g.has_failed() || !bounded(&g) {
            continue;
        }
        let bind = |node: &diffx::graph::Node, _: &[&RefTensor]| {
            let mut i = 0.0;
            let mut value = RefTensor::full(node.desc.shape, 0.0);
            value.data.iter_mut().for_each(|v| {
                i += 1.0;
                *v = reference::round(node.desc.dtype, i / 3.0);
            });
            Ok(value)
        };
        let values = reference::evaluate(&g, &outputs, &bind);
        let values = values.unwrap_or_else(|e| panic!("{}: {e}", info.name));
        assert_eq!(values.len(), outputs.len());
        evaluated += 1;
    }
    assert!(accepted > 2000 && evaluated > 1500, "{accepted} accepted, {evaluated} evaluated");
    assert!(differentiated > 1000, "{differentiated} differentiated");
}
