use super::*;

/// Evaluates on a thread that may.
fn evaluated(program: &str, input: &str, limits: Limits) -> Result<Vec<String>, String> {
    let program = Program::compile(program, &["$key"])?;
    let input = input.to_owned();
    let (tell, told) = std::sync::mpsc::channel();
    let job = async move {
        run(move |turn| {
            turn.within(limits, |scope| {
                let input = Value::from_json(input.as_bytes()).expect("the input is JSON");
                let mut all = Vec::new();
                scope.outputs(&program, input, &[Value::from("k1")], |output| {
                    let mut json = Vec::new();
                    scope.write(&output, &mut json);
                    all.push(String::from_utf8(json).unwrap());
                    true
                })?;
                Ok(all)
            })
        })
        .await
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        tell.send(runtime.unwrap().block_on(job)).unwrap();
    });
    told.recv_timeout(std::time::Duration::from_secs(120))
        .expect("it ends")
        .expect("there is a thread")
        .map_err(|why| why.to_string())
}

#[track_caller]
fn gives(program: &str, input: &str, outputs: &[&str]) {
    assert_eq!(
        evaluated(program, input, Limits::default()).as_deref(),
        Ok(&outputs.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()[..]),
        "{program}"
    );
}

#[track_caller]
fn fails(program: &str, input: &str, with: &str) {
    let why = evaluated(program, input, Limits::default()).expect_err(program);
    assert!(why.contains(with), "{program}: {why}");
}

/// What jq's manual shows, and what is ours; each with input and outputs.
#[test]
fn programs_give_what_jq_gives() {
    for (program, input, outputs) in [
        (
            ".",
            r#"{"a":[1,2.5,"x",null,true]}"#,
            &[r#"{"a":[1,2.5,"x",null,true]}"#][..],
        ),
        (".a.b", r#"{"a":{"b":7}}"#, &["7"]),
        (".a.b", r#"{}"#, &["null"]),
        (".a?", "7", &[]),
        (
            ".[-1], .[1:], .[:1], .[5]",
            "[1,2,3]",
            &["3", "[2,3]", "[1]", "null"],
        ),
        (".[1:3]", r#""äöü!""#, &[r#""öü""#]),
        ("select(.n > 1)", r#"{"n":2}"#, &[r#"{"n":2}"#]),
        ("select(.n > 1)", r#"{"n":1}"#, &[]),
        ("{id, k: $key}", r#"{"id":1,"x":2}"#, &[r#"{"id":1,"k":"k1"}"#]),
        ("map(.a) | add", r#"[{"a":1},{"a":2}]"#, &["3"]),
        (".a = 1", "null", &[r#"{"a":1}"#]),
        (".[2] = 1", "null", &["[null,null,1]"]),
        (
            ".a += 1 | del(.b)",
            r#"{"a":1,"b":2,"c":3}"#,
            &[r#"{"a":2,"c":3}"#],
        ),
        (".[] |= . * 2", "[1,2]", &["[2,4]"]),
        (".[0:2] = [9]", "[1,2,3]", &["[9,3]"]),
        ("to_entries", r#"{"a":1}"#, &[r#"[{"key":"a","value":1}]"#]),
        ("with_entries(.value += 1)", r#"{"a":1}"#, &[r#"{"a":2}"#]),
        ("[paths]", r#"{"a":[1]}"#, &[r#"[["a"],["a",0]]"#]),
        ("[..]", "[[1]]", &["[[[1]],[1],1]"]),
        ("length, utf8bytelength", r#""äb""#, &["2", "3"]),
        ("keys, has(\"a\")", r#"{"b":1,"a":2}"#, &[r#"["a","b"]"#, "true"]),
        ("contains({a: [\"x\"]})", r#"{"a":["xy","z"]}"#, &["true"]),
        (
            "index(\"b\"), rindex(\"b\"), indices(\"b\")",
            r#""äbcb""#,
            &["1", "3", "[1,3]"],
        ),
        ("indices([1,2])", "[0,1,2,1,2]", &["[1,3]"]),
        (
            "sort, unique, (sort_by(.) | reverse), min, max",
            "[3,1,2,1]",
            &["[1,1,2,3]", "[1,2,3]", "[3,2,1,1]", "1", "3"],
        ),
        (
            "group_by(.a) | map(length)",
            r#"[{"a":1},{"a":2},{"a":1}]"#,
            &["[2,1]"],
        ),
        (
            "test(\"B\"; \"i\"), [match(\"(?<n>b)c\") | .offset, .captures[0].name]",
            r#""äbc""#,
            &["true", r#"[1,"n"]"#],
        ),
        (
            "sub(\"(?<a>b)\"; \"<\\(.a)>\"), gsub(\"[bc]\"; \"\"), [splits(\"b\")]",
            r#""abcb""#,
            &[r#""a<b>cb""#, r#""a""#, r#"["a","c",""]"#],
        ),
        (
            "capture(\"(?<y>\\\\d+)-(?<m>\\\\d+)\")",
            r#""2026-01""#,
            &[r#"{"y":"2026","m":"01"}"#],
        ),
        (
            "split(\", \"), ascii_upcase, ltrimstr(\"a\"), startswith(\"a\")",
            r#""a, b""#,
            &[r#"["a","b"]"#, r#""A, B""#, r#"", b""#, "true"],
        ),
        ("split(\"\")", r#""äb""#, &[r#"["ä","b"]"#]),
        ("join(\"-\")", r#"["a","b"]"#, &[r#""a-b""#]),
        (
            "tojson, (tojson | fromjson), tostring",
            r#"{"a":[1]}"#,
            &[r#""{\"a\":[1]}""#, r#"{"a":[1]}"#, r#""{\"a\":[1]}""#],
        ),
        ("tonumber, (\"1.5\" | tonumber)", r#""12""#, &["12", "1.5"]),
        (
            "@base64, (@base64 | @base64d), @uri, @html, @json",
            r#""a&b""#,
            &[
                r#""YSZi""#,
                r#""a&b""#,
                r#""a%26b""#,
                r#""a&amp;b""#,
                r#""\"a&b\"""#,
            ],
        ),
        (
            "\"x\" * 3, (\"x\" * 0), 7 / 2, 6 / 2, 7 % 4, -(3)",
            "null",
            &[r#""xxx""#, "null", "3.5", "3", "3", "-3"],
        ),
        ("{a: {b: 1}} * {a: {c: 2}}", "null", &[r#"{"a":{"b":1,"c":2}}"#]),
        ("[1,2,3] - [2]", "null", &["[1,3]"]),
        (
            "1 as $x | [$x, $x + 1] as [$a, $b] | {$a, $b}",
            "null",
            &[r#"{"a":1,"b":2}"#],
        ),
        ("try error(\"no\") catch .", "null", &[r#""no""#]),
        (".a // \"none\"", "{}", &[r#""none""#]),
        (
            "if . > 1 then \"big\" elif . == 1 then \"one\" else \"small\" end",
            "1",
            &[r#""one""#],
        ),
        (
            "reduce .[] as $x (0; . + $x), [foreach .[] as $x (0; . + $x)]",
            "[1,2,3]",
            &["6", "[1,3,6]"],
        ),
        (
            "[limit(3; range(10))], first(range(5; 10)), [range(0; 10; 3)], isempty(empty)",
            "null",
            &["[0,1,2]", "5", "[0,3,6,9]", "true"],
        ),
        (
            "def f($n): if $n == 0 then [] else [$n] + f($n - 1) end; f(3)",
            "null",
            &["[3,2,1]"],
        ),
        (
            "[recurse(if . < 3 then . + 1 else empty end)], until(. > 100; . * 2), [while(. < 3; . + 1)]",
            "1",
            &["[1,2,3]", "128", "[1,2]"],
        ),
        (
            "walk(if type == \"number\" then . + 1 else . end)",
            "[1,[2]]",
            &["[2,[3]]"],
        ),
        (
            "flatten, transpose",
            "[[1],[2,3]]",
            &["[1,2,3]", "[[1,2],[null,3]]"],
        ),
        (
            "any, all, any(. == 2), all(. > 0)",
            "[1,2]",
            &["true", "true", "true", "true"],
        ),
        (
            "todate, (todate | fromdate), strftime(\"%Y\")",
            "1767225600",
            &[r#""2026-01-01T00:00:00Z""#, "1767225600", r#""2026""#],
        ),
        ("now > 1700000000", "null", &["true"]),
        ("env, ([splits(\"a\")]?)", "1", &["{}"]),
        (
            "9007199254740993, 18446744073709551615, .",
            "-9223372036854775808",
            &["9007199254740993", "18446744073709551615", "-9223372036854775808"],
        ),
        (". + 1", "9223372036854775807", &["9223372036854775808"]),
        (
            "1 / 0 | isinfinite, (0 / 0 | isnan), [nan] == [nan], ([nan, 1] | sort)",
            "null",
            &["true", "true", "false", "[null,1]"],
        ),
        (
            "null < false, false < 0, 0 < \"\", \"\" < [], [] < {}, 1 == 1.0",
            "null",
            &["true", "true", "true", "true", "true", "true"],
        ),
        (
            "getpath([\"a\",0]), setpath([\"a\",0]; 9), delpaths([[\"a\",0]])",
            r#"{"a":[1]}"#,
            &["1", r#"{"a":[9]}"#, r#"{"a":[]}"#],
        ),
        ("pick(.a)", r#"{"a":1,"b":2}"#, &[r#"{"a":1}"#]),
        (
            "label $out | foreach .[] as $x (0; . + $x; if . > 2 then ., break $out else empty end)",
            "[1,2,3]",
            &["3"],
        ),
        (
            "[.[] | tostring], (.[0] | tobytes? // \"no\")",
            r#"["a",1]"#,
            &[r#"["a","1"]"#, r#""a""#],
        ),
        ("abs, toarray, trunc", "-1.5", &["1.5", "[-1.5]", "-1.0"]),
        ("implode", "[228,98]", &[r#""äb""#]),
        ("bsearch(2), bsearch(9)", "[1,2]", &["1", "-3"]),
        (
            ".[\"a\"], .a[\"b\"]?, .\"a\"",
            r#"{"a":{"b":1}}"#,
            &[r#"{"b":1}"#, "1", r#"{"b":1}"#],
        ),
    ] {
        gives(program, input, outputs);
    }
}

#[test]
fn what_fails_says_why() {
    fails(".a", "7", "cannot index 7 with \"a\"");
    fails("error({code: 7})", "null", "{\"code\":7}");
    fails("1 + \"a\"", "null", "cannot calculate 1 + \"a\"");
    fails("test(\"(\")", "\"x\"", "the regular expression is not taken");
    fails(
        "test(\"((a{1000}){1000})\")",
        "\"x\"",
        "the regular expression is not taken",
    );
    fails("\"x\" * 1000 | error", "null", "…");
}

#[test]
fn what_does_not_compile_says_where() {
    for (program, why) in [
        ("", "lacks a term, at line 1, column 1"),
        (".a |", "lacks a term, at line 1, column 5"),
        (
            ".a\n | nope",
            "calls nope, which is not there, at line 2, column 4",
        ),
        ("map", "calls map, which is not there"),
        ("map(.; .)", "calls map with 2 arguments, which is not there"),
        ("$ENV", "uses the variable $ENV, which is not there"),
        ("$value", "uses the variable $value"),
        ("(.a", "lacks a closing parenthesis, at line 1, column 4"),
        ("\"a", "lacks a closing quote"),
        ("import \"a\" as a; .", "reads a file"),
        ("include \"a\"; .", "reads a file"),
        ("input", "calls input"),
        ("inputs", "calls inputs"),
        ("halt", "calls halt"),
        ("halt_error", "calls halt_error"),
        ("debug", "calls debug"),
        ("stderr", "calls stderr"),
        ("localtime", "calls localtime"),
        ("jn(1; 2)", "calls jn"),
        ("input_filename", "calls input_filename"),
    ] {
        let error = Program::compile(program, &["$key"]).expect_err(program);
        assert!(error.contains(why), "{program:?}: {error}");
    }
    let long = "1+".repeat(MAX_PROGRAM);
    assert!(
        Program::compile(&long, &[])
            .expect_err("too long")
            .contains("may have 8192")
    );
}

/// Everything that jaq has is either taken or left, so that nothing comes in with a new version that nobody looked at.
#[test]
fn every_function_of_jaq_was_looked_at() {
    let all = jaq_core::funs::<super::meter::Data>().chain(jaq_std::funs());
    let mut names: Vec<_> = all.map(|(name, _, _)| name).collect();
    names.sort_unstable();
    let mut known: Vec<_> = natives::TAKEN.iter().chain(natives::LEFT).copied().collect();
    known.sort_unstable();
    assert_eq!(names, known);
}

/// Programs that never end, take all memory, or overflow a stack, and the bound that each of them reaches.
#[test]
fn no_program_takes_more_than_it_may() {
    let mut wrong = Vec::new();
    // What the other bounds allow is to be reached, on a busy machine too.
    let patient = Limits {
        time: std::time::Duration::from_secs(20),
        ..Limits::default()
    };
    for (program, bound) in [
        ("def f: f; f", "steps"),
        ("def f: f | f; f", "calls itself too deep"),
        ("def f: 1 + f; f", "calls itself too deep"),
        ("def f: [f]; f", "calls itself too deep"),
        ("def f(g): f(g | .); f(.)", "steps"),
        ("def f(g): f(g | g); f(.)", "steps"),
        ("def f(g): g | f(g | g); f(.)", "steps"),
        ("def f($a): f([$a]); f(1)", "nested"),
        ("null | path(def r: .a | r; r)", "steps"),
        ("first(path(def r: .a | r; r))", "steps"),
        ("def r: r[]; r |= .", "calls itself too deep"),
        ("def r: .a | r; {} | r |= .", "calls itself too deep"),
        ("[range(1e12)] | length", "e"),
        ("last(range(1e12))", "steps"),
        ("[limit(1e12; repeat(1))]", "e"),
        ("skip(1e12; range(1e13))", "steps"),
        ("reduce range(1e12) as $x (0; .)", "steps"),
        ("reduce range(1e12) as $x (.; ., .)", "keeps more"),
        ("[foreach range(1e12) as $x (0; .; .)]", "e"),
        ("\"x\" * 1e9", "bytes"),
        ("\"x\" * 1e300", "bytes"),
        ("reduce range(64) as $i (\"x\"; . + .)", "bytes"),
        ("reduce range(64) as $i ([1]; . + .) | length", "bytes"),
        ("reduce range(64) as $i (1; [., .]) | tojson", "e"),
        ("reduce range(64) as $i (1; [., .]) | [..] | length", "e"),
        (
            "reduce range(64) as $i (1; [., .]) as $a | $a == (reduce range(64) as $i (1; [., .]))",
            "steps",
        ),
        ("reduce range(64) as $i (1; [., .])", "e"),
        ("reduce range(1e6) as $i (null; [.])", "nested"),
        ("reduce range(1e6) as $i (null; {a: .})", "nested"),
        ("reduce range(1e6) as $i (null; .a = {b: .})", "nested"),
        (".[1e9] = 1", "bytes"),
        ("[range(5000)] | combinations(5)", "e"),
        ("repeat(.) | select(false)", "steps"),
        ("recurse(.) | empty", "steps"),
        ("until(false; .)", "steps"),
        ("while(true; .) | empty", "steps"),
        (
            "label $x | repeat(1) | if . == 2 then break $x else empty end",
            "steps",
        ),
        ("[range(100000)] | [.[] as $a | .[] as $b | 1]", "e"),
        (
            "[range(20000)] | map([range(.)] | contains([range(100)])) | length",
            "e",
        ),
        ("\"a\" * 1e6 | gsub(\"a\"; \"bbbbbbbbbb\")", "e"),
        ("\"a\" * 1e6 | indices(\"a\" * 5e5)", "steps"),
        ("[range(30000)] | sort_by(repeat(1))", "e"),
        ("try (def f: f; f) catch 1", "steps"),
        ("(def f: f; f)?", "steps"),
        ("(\"x\" * 1e9)? // 1", "bytes"),
        ("[.[]?, range(1e12)] | any", "e"),
        ("any(range(1e12); false)", "steps"),
        (
            "def d(f): f, f; def q(f): d(d(d(d(f)))); def h(f): q(q(q(q(f)))); [h(h(1))] | length",
            "e",
        ),
        (
            "def s(f): [f]; def a(f): s(s(s(s(f)))); def b(f): a(a(a(a(f)))); def c(f): b(b(b(b(f)))); c(c(c(c(c(1)))))",
            "nested",
        ),
        ("\"x\" * 6e6", "gives more than 4194304 bytes"),
        ("\"\\u0001\" * 1e6", "gives more than 4194304 bytes"),
        ("\"\\u0001\" * 2e7 | tojson | tojson", "bytes"),
        ("\"a\" * 200000 | test(\"(a?){50}a{50}b\")", ""),
        ("[range(300)] | implode | test(\"(a|b|ab)*c\")", ""),
    ] {
        let started = std::time::Instant::now();
        let ended = evaluated(program, "null", patient);
        let took = started.elapsed();
        match ended {
            Err(why) if why.contains(bound) || why.contains("takes longer") => {}
            Ok(_) if bound.is_empty() => {}
            ended => wrong.push((program, ended)),
        }
        assert!(
            took < std::time::Duration::from_secs(100),
            "{program} took {took:?}"
        );
        eprintln!("{took:>12?} {program}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn time_is_a_bound_of_its_own() {
    let soon = Limits {
        time: std::time::Duration::from_millis(20),
        steps: u64::MAX,
        ..Limits::default()
    };
    let why = evaluated("def f: f; f", "null", soon).unwrap_err();
    assert!(why.contains("takes longer than 20 ms"), "{why}");
}

/// Programs that are nested as deep as a program can be.
#[test]
fn no_program_is_too_deep_to_be_compiled_or_refused() {
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("[", "", "]"),
        ("{a:", "1", "}"),
        ("-", "1", ""),
        ("try ", "1", ""),
        ("1|", "1", ""),
        ("1,", "1", ""),
        ("1 as $x|", "1", ""),
        ("1+", "1", ""),
        ("1//", "1", ""),
        ("def f: ", "1", "; 1"),
        ("def f: 1; ", "1", ""),
        ("if 1 then ", "1", " else 1 end"),
        ("reduce 1 as $x (1;", "1", ")"),
        ("label $x|", "1", ""),
        ("\"\\(", "1", ")\""),
        (".[", "0", "]"),
        (".a", "", ""),
        ("map(", ".", ")"),
        ("..|=", "1", ""),
        ("1 as [", "$a", "]|1"),
    ] {
        let times = (MAX_PROGRAM - middle.len()) / (open.len() + close.len());
        for times in [times, times / 2, 100, 3] {
            let program = format!("{}{middle}{}", open.repeat(times), close.repeat(times));
            if let Err(why) = evaluated(&program, "null", Limits::default()) {
                assert!(!why.contains("fault"), "{open}: {why}");
            }
        }
        // What is not closed is refused.
        let program = open.repeat(MAX_PROGRAM / open.len());
        drop(Program::compile(&program, &[]));
    }
}
