//! Reading files and directories, and laying everything over each other in Consul's order (config spec §1).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    Low, flags,
    merge::merge,
    schema::{self, Key, Problems, Spelling},
    several,
};

/// The largest configuration file read: far beyond any real one.
const MAX_FILE: u64 = 16 << 20;

/// What to load.
#[derive(Debug, Default)]
pub struct Sources {
    /// `-config-file` and `-config-dir`, in the order given.
    pub paths: Vec<PathBuf>,
    /// `-config-format`: files are in this format whatever their suffix.
    pub format: Option<String>,
    /// Everything that flags say.
    pub flags: flags::Given,
}

/// The merged configuration, and warnings to show.
#[derive(Debug)]
pub struct Loaded {
    /// As written.
    pub low: Low,
    /// Sentences for standard error.
    pub warnings: Vec<String>,
}

/// Reads and merges: list flags, then files in order, then scalar flags.
///
/// # Errors
/// One sentence, Consul's where Consul has one.
pub fn load(sources: &Sources) -> Result<Loaded, String> {
    let forced = match sources.format.as_deref() {
        None | Some("") => false,
        Some("json") => true,
        Some("hcl") => return Err(NO_HCL.to_owned()),
        Some(_) => return Err("config: -config-format must be either 'hcl' or 'json'".to_owned()),
    };
    let mut warnings = Vec::new();
    let mut merged = sources.flags.lists.clone();
    for path in &sources.paths {
        for file in expand(path)? {
            match file.extension().and_then(|suffix| suffix.to_str()) {
                _ if forced => {}
                Some("json") => {}
                Some("hcl") => return Err(format!("failed to parse {}: {NO_HCL}", file.display())),
                _ => {
                    let shown = file.display();
                    warnings.push(format!(
                        "skipping file {shown}, extension must be .hcl or .json, or config format must be set"
                    ));
                    continue;
                }
            }
            merge(
                &mut merged,
                parse(&read(&file)?).map_err(|why| format!("failed to parse {}: {why}", file.display()))?,
            );
        }
    }
    merge(&mut merged, sources.flags.scalars.clone());
    let low =
        serde_json::from_value(merged).map_err(|error| format!("configuration does not fit together: {error}"))?;
    Ok(Loaded { low, warnings })
}

const NO_HCL: &str = "HCL is not implemented yet by lictor: write the file as JSON";

/// The text of one file, checked and with canonical keys.
///
/// # Errors
/// JSON errors with line and column, unknown keys, wrong types, or keys that we do not have yet.
pub fn parse(text: &[u8]) -> Result<Value, String> {
    let mut value: Value = serde_json::from_slice(text).map_err(|error| match error.is_eof() && text.is_empty() {
        true => "the file is empty: write at least {}".to_owned(),
        false => error.to_string(),
    })?;
    verdict(schema::check(schema::FILE, Spelling::File, &mut value))?;
    Ok(value)
}

/// One definition in an HTTP body.
///
/// # Errors
/// Go's sentences for bodies that do not fit.
pub fn parse_body(keys: &'static [Key], value: &mut Value) -> Result<(), String> {
    let problems = schema::check(keys, Spelling::Http, value);
    match (problems.unknown.first(), problems.types.first(), problems.missing.first()) {
        (Some(path), ..) => {
            let name = path.rsplit('.').next().unwrap_or(path);
            Err(format!("json: unknown field {name:?}"))
        }
        (_, Some(why), _) => Err(why.clone()),
        (.., Some(path)) => Err(format!("{path} is not implemented yet by lictor")),
        _ => Ok(()),
    }
}

fn verdict(problems: Problems) -> Result<(), String> {
    // Consul decodes before it looks for unknown keys.
    if !problems.types.is_empty() {
        let lines: Vec<String> = problems.types.iter().map(|why| format!("* {why}")).collect();
        return Err(format!("{} error(s) decoding:\n\n{}", lines.len(), lines.join("\n")));
    }
    let unknown = problems.unknown.iter().map(|path| format!("invalid config key {path}"));
    let missing = problems.missing.iter().map(|path| format!("config key {path} is not implemented yet by lictor"));
    let all: Vec<String> = unknown.chain(missing).collect();
    if all.is_empty() { Ok(()) } else { Err(several(&all)) }
}

/// The file itself, or the JSON and HCL files of a directory by name.
fn expand(path: &Path) -> Result<Vec<PathBuf>, String> {
    let failed =
        |error: io::Error| format!("config: Open failed on {0}. open {0}: {1}", path.display(), reason(&error));
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A link to a file counts, a directory below does not.
        if fs::metadata(entry.path()).map_err(failed)?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("config: ReadFile failed on {}: {}", path.display(), reason(&error));
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(format!("config: {} is larger than {MAX_FILE} octets", path.display()));
    }
    fs::read(path).map_err(failed)
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A directory that is removed when the test is over.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let path = std::env::temp_dir().join(format!("lictor-load-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            for (name, text) in files {
                fs::write(path.join(name), text).unwrap();
            }
            Directory(path)
        }

        fn load(&self, flags: flags::Given) -> Result<Loaded, String> {
            load(&Sources { paths: vec![self.0.clone()], format: None, flags })
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_are_merged_by_name_and_flags_go_around_them() {
        let directory = Directory::new(
            "merge",
            &[
                ("b.json", r#"{"datacenter": "b", "start_join": ["fb"], "node_meta": {"y": "b"}}"#),
                (
                    "a.json",
                    r#"{"datacenter": "a", "start_join": ["fa"], "node_meta": {"x": "a", "y": "a"}, "domain": "d"}"#,
                ),
                ("c.txt", "not read"),
            ],
        );
        let given = flags::Given { lists: json!({"start_join": ["flag"]}), scalars: json!({"domain": "flag"}) };
        let loaded = directory.load(given).unwrap();
        assert_eq!(loaded.low.datacenter.as_deref(), Some("b"));
        assert_eq!(loaded.low.start_join, ["flag", "fa", "fb"]);
        assert_eq!(loaded.low.domain.as_deref(), Some("flag"));
        assert_eq!(loaded.low.node_meta, [("x", "a"), ("y", "b")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert!(loaded.warnings[0].starts_with("skipping file ") && loaded.warnings.len() == 1);
    }

    #[test]
    fn errors_name_the_file() {
        let directory = Directory::new("errors", &[("a.json", "{nope")]);
        let text = directory.load(flags::Given::default()).unwrap_err();
        assert!(
            text.starts_with("failed to parse ") && text.contains("a.json: key must be a string at line 1"),
            "{text}"
        );
        let hcl = Directory::new("hcl", &[("a.hcl", "server = true")]);
        assert!(hcl.load(flags::Given::default()).unwrap_err().ends_with("write the file as JSON"));
        let sources = Sources { paths: vec!["/nope".into()], ..Sources::default() };
        assert_eq!(load(&sources).unwrap_err(), "config: Open failed on /nope. open /nope: no such file or directory");
    }

    #[test]
    fn problems_read_like_consuls() {
        assert_eq!(parse(br#"{"bogus": 1}"#).unwrap_err(), "1 error occurred:\n\t* invalid config key bogus\n\n");
        assert_eq!(parse(br#"{"server": "yes"}"#).unwrap_err(), {
            "1 error(s) decoding:\n\n* 'server' expected type 'bool', got unconvertible type 'string'"
        });
        assert_eq!(parse(br#"{"ui": true}"#).unwrap_err(), {
            "1 error occurred:\n\t* config key ui is not implemented yet by lictor\n\n"
        });
    }

    #[test]
    fn a_format_can_be_forced() {
        let directory = Directory::new("forced", &[("conf", r#"{"domain": "x"}"#)]);
        let load = |format: &str| {
            load(&Sources { paths: vec![directory.0.join("conf")], format: Some(format.into()), ..Sources::default() })
        };
        assert_eq!(load("json").unwrap().low.domain.as_deref(), Some("x"));
        assert_eq!(load("xml").unwrap_err(), "config: -config-format must be either 'hcl' or 'json'");
    }

    fn json() -> impl Strategy<Value = Value> {
        let names = || proptest::sample::select(schema::FILE).prop_map(|key| key.name.to_owned());
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z0-9.:-]{0,8}".prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(3, 24, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((prop_oneof![names(), "[a-z_]{1,6}".boxed()], inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever passes the schema also fits the typed structs, and resolving it never panics.
        #[test]
        fn the_schema_and_the_structs_agree(value in json()) {
            if let Ok(value) = parse(value.to_string().as_bytes()) {
                let low = serde_json::from_value::<Low>(value);
                prop_assert!(low.is_ok(), "{:?}", low.err());
                let _ = super::super::Config::resolve(low.expect("checked above"), false);
            }
        }

        #[test]
        fn any_octets_are_survived(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&text);
        }
    }
}
