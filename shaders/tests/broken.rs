//! A broken shader fails the build with file, line and column: the checks of `build.rs` on shaders that are wrong.

#[path = "../build/assemble.rs"]
mod assemble;
#[path = "../build/halves.rs"]
mod halves;
#[path = "../build/lint.rs"]
mod lint;
#[path = "../build/reflect.rs"]
mod reflect;
#[path = "../build/twin.rs"]
mod twin;

use std::io;

use naga::valid::Capabilities;

const HEAD: &str = "// y = 2x, both [n]\n// #import shared/util\n";
const BINDINGS: &str = "struct Params { n: u32 }\n@group(0) @binding(0) var<uniform> p: Params;\n\
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;\n";
const MAIN: &str = "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {\n\
    if (i < p.n) { y[i] = twice(y[i]); }\n}\n";

/// Checks `a/b.wgsl` with these shared files; the fault, or the facts, as text.
fn check_with(main: &str, shared: &[(&str, &str)]) -> String {
    let read = |file: &str| match shared.iter().find(|(name, _)| *name == file) {
        Some((_, text)) => Ok((*text).to_owned()),
        None if file == "a/b.wgsl" => Ok(main.to_owned()),
        None => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    match twin::both(&read, "a/b.wgsl") {
        Ok((shader, reflect::Facts { n_storage, workgroup, n_params }, twin)) => {
            let variant = |of: &twin::Variant| match twin::variant(&read, "a/b.wgsl", &shader, of)? {
                Ok((_, facts)) => Some(format!(", {}: {}", of.kind, facts.n_storage)),
                Err(fault) => Some(format!(", {}: {fault}", of.kind)),
            };
            let variants: String = twin::VARIANTS.iter().filter_map(variant).collect();
            format!("sound: {n_storage} {workgroup:?} {n_params}{}{variants}", twin.map_or("", |_| " twice"))
        }
        Err(fault) => fault.to_string(),
    }
}

/// The same with `shared/util.wgsl`.
fn check(main: &str, shared: &str) -> String {
    check_with(main, &[("shared/util.wgsl", shared)])
}

#[test]
fn a_twin_is_checked_too() {
    let main = format!("// y = 2x, both [n]\n// #import shared/reduce\n{BINDINGS}{MAIN}");
    let with = |twin: &str| check_with(&main, &[("shared/reduce.wgsl", UTIL), ("shared/reduce_subgroup.wgsl", twin)]);
    assert_eq!(with("// util\nfn twice(x: f32) -> f32 { return subgroupAdd(x); }\n"), "sound: 1 [64, 1, 1] 1 twice");
    let more = "// util\n@group(0) @binding(2) var<storage, read_write> z: array<f32>;\n\
        fn twice(x: f32) -> f32 { return z[0]; }\n";
    assert!(with(more).contains("binds something else"), "{}", with(more));
    assert!(with("// util\n").starts_with("a/b.wgsl"), "{}", with("// util\n"));
}

#[test]
fn a_shader_for_short_rows_is_checked_too() {
    let main = format!("// y = 2x, both [n]\n// #short\n// #import shared/reduce\n{BINDINGS}{MAIN}");
    let with = |alone: &str| {
        let files =
            [("shared/reduce.wgsl", UTIL), ("shared/reduce_subgroup.wgsl", UTIL), ("shared/reduce_alone.wgsl", alone)];
        check_with(&main, &files)
    };
    assert_eq!(with(UTIL), "sound: 1 [64, 1, 1] 1 twice, short: 1");
    assert!(with("// util\n").contains("short: a/b.wgsl:"), "{}", with("// util\n"));
}

#[test]
fn optional_features_are_named_in_the_head() {
    let words = "// util\nfn twice(x: f32) -> f32 { return x * f32(u32(u64(2u) >> 0u)); }\n";
    let with =
        |needs: &str| check(&format!("// y = 2x, both [n]\n{needs}// #import shared/util\n{BINDINGS}{MAIN}"), words);
    assert_eq!(with("// #needs int64\n"), "sound: 1 [64, 1, 1] 1");
    assert!(with("").starts_with("shared/util.wgsl:"), "{}", with(""));
    assert!(with("// #needs telepathy\n").contains("`telepathy` is no feature"), "{}", with("// #needs telepathy\n"));
}

const UTIL: &str = "// util\nfn twice(x: f32) -> f32 { return 2.0 * x; }\n";

#[test]
fn a_sound_shader_passes() {
    let facts = check(&format!("{HEAD}{BINDINGS}{MAIN}"), UTIL);
    assert_eq!(facts, "sound: 1 [64, 1, 1] 1");
}

#[test]
fn an_import_is_spliced_once_and_may_name_itself() {
    let facts =
        check(&format!("{HEAD}// #import shared/util\n{BINDINGS}{MAIN}"), &format!("{UTIL}// #import shared/util\n"));
    assert!(facts.starts_with("sound"), "{facts}");
}

#[track_caller]
fn faulty(main: &str, shared: &str, place: &str, word: &str) {
    let fault = check(main, shared);
    assert!(fault.starts_with(place) && fault.contains(word), "{fault}");
}

#[test]
fn syntax_error_is_placed() {
    faulty(&format!("{HEAD}{BINDINGS}let = 3;\n{MAIN}"), UTIL, "a/b.wgsl:6:1: ", "");
}

#[test]
fn error_in_a_shared_file_is_placed_there() {
    faulty(
        &format!("{HEAD}{BINDINGS}{MAIN}"),
        "// util\nfn twice(x: f32) -> f32 { return y0; }\n",
        "shared/util.wgsl:2:34: ",
        "y0",
    );
}

#[test]
fn wrong_type_is_placed() {
    let main = MAIN.replace("twice(y[i])", "i");
    faulty(&format!("{HEAD}{BINDINGS}{main}"), UTIL, "a/b.wgsl:7:", "type");
}

#[test]
fn missing_import_is_placed() {
    faulty(
        &format!("// y = x, [n]\n// #import shared/none\n{BINDINGS}{MAIN}"),
        UTIL,
        "a/b.wgsl:2:1: ",
        "shared/none.wgsl",
    );
}

#[test]
fn nan_test_by_comparison_is_refused() {
    let main = MAIN.replace("i < p.n", "y[i] != y[i]");
    faulty(&format!("{HEAD}{BINDINGS}{main}"), UTIL, "a/b.wgsl:7:10: ", "NaN");
}

#[test]
fn float_atomics_are_refused() {
    let bindings = BINDINGS.replace("array<f32>", "array<atomic<f32>>");
    faulty(&format!("{HEAD}{bindings}{MAIN}"), UTIL, "a/b.wgsl:5:", "float atomics");
}

#[test]
fn head_comment_is_asked_for() {
    faulty(&format!("{BINDINGS}{MAIN}"), UTIL, "a/b.wgsl:1:1: ", "begins with a comment");
    faulty(&format!("// twice\n{BINDINGS}{MAIN}"), UTIL, "a/b.wgsl:1:1: ", "formula");
}

#[test]
fn binding_convention_is_asked_for() {
    let gap = BINDINGS.replace("@binding(1)", "@binding(2)");
    faulty(&format!("{HEAD}{gap}{MAIN}"), UTIL, "a/b.wgsl:", "count 1, 2");
    let vector = BINDINGS.replace("n: u32", "n: u32, v: vec2<f32>");
    faulty(&format!("{HEAD}{vector}{MAIN}"), UTIL, "a/b.wgsl:4:", "4-byte scalars");
    let big = MAIN.replace("64", "512");
    faulty(&format!("{HEAD}{BINDINGS}{big}"), UTIL, "a/b.wgsl:", "");
}

/// The shader for halves of `// #halves y` over these lines of `main`, or the fault.
fn halved(bindings: &str, body: &str) -> String {
    let head = "// y = x, both [n]\n// #halves x\n";
    let main =
        format!("@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {{\n{body}\n}}\n");
    let text = format!("{head}{BINDINGS}{bindings}{main}");
    let read = |_: &str| Ok(text.clone());
    let shader = match assemble::assemble(&read, "a/b.wgsl", None) {
        Ok(shader) => shader,
        Err(fault) => return fault.to_string(),
    };
    match halves::halves(&shader).map(|s| s.and_then(|s| reflect::reflect(&s, Capabilities::empty()).map(|_| s.source)))
    {
        None => "not asked for".into(),
        Some(Ok(source)) => source,
        Some(Err(fault)) => fault.to_string(),
    }
}

#[test]
fn inputs_are_read_as_halves() {
    let x = "@group(0) @binding(2) var<storage, read_write> x: array<f32>;\n";
    let source = halved(x, "// x[0]\nlet max = 1u; y[i] = x[i * max + p.n] + x[u32(y[0])]; // x[1]");
    assert!(source.contains("y[i] = x_value(i * max + p.n) + x_value(u32(y[0])); // x[1]"), "{source}");
    assert!(source.contains("x: array<u32>;") && source.contains("// x[0]\n"), "{source}");
    let x = x.replace("f32", "vec4<f32>");
    let source = halved(&x, "y[i] = x[i].y;");
    assert!(source.contains("x: array<vec2<u32>>;") && source.contains("y[i] = x_value(i).y;"), "{source}");
}

#[test]
fn halves_that_cannot_be_are_refused() {
    let x = "@group(0) @binding(2) var<storage, read_write> x: array<f32>;\n";
    assert!(halved(x, "x[i] = y[i];").contains("`x`: it is written"));
    assert!(halved(x, "x[i] += y[i];").contains("`x`: it is written"));
    assert!(!halved(x, "if (x[i] == y[i + 1u]) { y[i] = 1.0; }").contains("is written"));
    assert!(halved(&x.replace("f32", "i32"), "y[i] = f32(x[i]);").contains("array of f32"));
}
