//! The types of the configuration, read from their source: which fields there are, in the spelling
//! of the configuration.

use super::defaults::Defaults;
use crate::error::XtaskError;
use farthing_host_tests::paths;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use syn::{Attribute, Expr, Field as SynField, Fields, GenericArgument, Item, ItemEnum, Lit};
use syn::{ItemStruct, Meta, PathArguments, Type};

/// Where the types are, and the one that is the whole configuration.
const SOURCES: &str = "plugin/core/src/config";
const LIMITS: &str = "plugin/core/src/limits.rs";
const ROOT: &str = "RawConfig";
/// Types within types: far more than a configuration that people can read.
const DEPTH_MAX: usize = 12;

/// A field of the configuration.
#[derive(Debug)]
pub struct Field {
    /// Such as `models[].price.input_usd_per_mtok`; `NAME` is a name of the user's choice.
    pub path: String,
    /// In words.
    pub kind: String,
    pub presence: Presence,
    pub meaning: String,
}

/// What holds where a field is left out.
#[derive(Debug, PartialEq, Eq)]
pub enum Presence {
    Needed,
    Default(String),
}

/// Every type of the configuration's source.
pub struct Types {
    structs: BTreeMap<String, ItemStruct>,
    enums: BTreeMap<String, ItemEnum>,
    defaults: Defaults,
}

impl Types {
    pub fn read() -> Result<Types, XtaskError> {
        let root = paths::workspace_root();
        let mut types = Types {
            structs: BTreeMap::new(),
            enums: BTreeMap::new(),
            defaults: Defaults::default(),
        };
        let mut files = vec![root.join(LIMITS)];
        rust_files(&root.join(SOURCES), &mut files)?;
        for file in files {
            let text = fs::read_to_string(&file).map_err(XtaskError::file("read", &file))?;
            let parsed = syn::parse_file(&text)
                .map_err(|error| XtaskError::Unexpected(format!("{}: {error}", file.display())))?;
            parsed.items.into_iter().for_each(|item| types.add(item));
        }
        Ok(types)
    }

    fn add(&mut self, item: Item) {
        match item {
            Item::Struct(item) => drop(self.structs.insert(item.ident.to_string(), item)),
            Item::Enum(item) => {
                for variant in &item.variants {
                    let path = format!("{}::{}", item.ident, variant.ident);
                    let spelled = spelled_variant(&item, variant);
                    self.defaults.add_word(path, spelled);
                }
                self.enums.insert(item.ident.to_string(), item);
            }
            other => self.defaults.add(other),
        }
    }

    /// Every field, in the order of the source, each followed by the fields within it.
    pub fn fields(&self) -> Result<Vec<Field>, XtaskError> {
        let root = self.structs.get(ROOT);
        let root = root.ok_or_else(|| XtaskError::Unexpected(format!("there is no {ROOT}")))?;
        let mut fields = Vec::new();
        self.add_struct(root, "", &mut fields, 0)?;
        Ok(fields)
    }

    fn add_struct(
        &self,
        item: &ItemStruct,
        path: &str,
        found: &mut Vec<Field>,
        depth: usize,
    ) -> Result<(), XtaskError> {
        let wholly = serde_word(&item.attrs, "default").is_some();
        for field in &item.fields {
            self.add_field(&item.ident.to_string(), field, wholly, path, found, depth)?;
        }
        Ok(())
    }

    fn add_field(
        &self,
        owner: &str,
        field: &SynField,
        wholly_default: bool,
        path: &str,
        found: &mut Vec<Field>,
        depth: usize,
    ) -> Result<(), XtaskError> {
        let Some(ident) = &field.ident else {
            return Ok(());
        };
        let name = match serde_word(&field.attrs, "rename") {
            Some(Some(name)) => name,
            _ => ident.to_string(),
        };
        let path = match path {
            "" => name,
            path => format!("{path}.{name}"),
        };
        if depth > DEPTH_MAX {
            return Err(XtaskError::Unexpected(format!(
                "{path}: types within types"
            )));
        }
        let unclear = |problem: String| XtaskError::Unexpected(format!("{path}: {problem}"));
        let (meaning, said) = split_default(&doc(&field.attrs));
        if meaning.is_empty() {
            return Err(unclear(format!("`{owner}::{ident}` has no comment")));
        }
        let optional = generic(&field.ty, "Option");
        let default = serde_word(&field.attrs, "default");
        let presence = match (said, default) {
            (Some(said), _) => Presence::Default(said),
            (None, Some(Some(function))) => {
                Presence::Default(self.defaults.of_function(&function).map_err(unclear)?)
            }
            (None, _) if optional.is_some() => Presence::Default("none".to_string()),
            (None, Some(None)) => Presence::Default(self.empty(&field.ty)),
            (None, None) if wholly_default => {
                let written = self.defaults.of_field(owner, &ident.to_string());
                let written = written.map_err(unclear)?;
                Presence::Default(written.unwrap_or_else(|| self.empty(&field.ty)))
            }
            (None, None) => Presence::Needed,
        };
        let inner = optional.unwrap_or(&field.ty);
        found.push(Field {
            path: path.clone(),
            kind: self.kind(inner).map_err(unclear)?,
            presence,
            meaning,
        });
        self.add_within(inner, &path, found, depth)
    }

    /// The fields of what a field holds.
    fn add_within(
        &self,
        ty: &Type,
        path: &str,
        found: &mut Vec<Field>,
        depth: usize,
    ) -> Result<(), XtaskError> {
        if let Some(inner) = generic(ty, "Option").or_else(|| generic(ty, "Box")) {
            return self.add_within(inner, path, found, depth);
        }
        if let Some(inner) = generic(ty, "Vec") {
            return self.add_within(inner, &format!("{path}[]"), found, depth);
        }
        if let Some(inner) = generic(ty, "BTreeMap") {
            return self.add_within(inner, &format!("{path}.NAME"), found, depth);
        }
        let name = type_name(ty);
        if let Some(item) = self.structs.get(&name).filter(|item| reads_fields(item)) {
            return self.add_struct(item, path, found, depth + 1);
        }
        for variant in self.enums.get(&name).iter().flat_map(|item| &item.variants) {
            match &variant.fields {
                Fields::Unit => {}
                Fields::Unnamed(fields) => {
                    for field in &fields.unnamed {
                        self.add_within(&field.ty, path, found, depth + 1)?;
                    }
                }
                Fields::Named(fields) => {
                    for field in &fields.named {
                        self.add_field(&name, field, false, path, found, depth + 1)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A type in words.
    fn kind(&self, ty: &Type) -> Result<String, String> {
        if let Some(inner) = generic(ty, "Option").or_else(|| generic(ty, "Box")) {
            return self.kind(inner);
        }
        if let Some(inner) = generic(ty, "Vec") {
            return Ok(format!("list of {}", self.kind(inner)?));
        }
        if let Some(inner) = generic(ty, "BTreeMap") {
            return Ok(format!("object, each NAME with {}", self.kind(inner)?));
        }
        let name = type_name(ty);
        if let Some(item) = self.enums.get(&name) {
            return self.alternatives(item);
        }
        let known = match name.as_str() {
            "String" => "text",
            "bool" => "`true` or `false`",
            "f64" | "f32" | "Fraction" => "number",
            "WholeNumber" | "u64" | "u32" | "u16" | "u8" | "usize" => "whole number",
            "Usd" => "dollars, as a number or as text",
            _ => match self.structs.get(&name) {
                Some(item) if reads_fields(item) => "object",
                Some(item) => return first_sentence(&doc(&item.attrs)).ok_or(name),
                None => return Err(format!("the type `{name}` is unknown")),
            },
        };
        Ok(known.to_string())
    }

    fn alternatives(&self, item: &ItemEnum) -> Result<String, String> {
        let mut words = Vec::new();
        for variant in &item.variants {
            let word = match &variant.fields {
                Fields::Unit => format!("`{}`", spelled_variant(item, variant)),
                Fields::Named(_) => "object".to_string(),
                Fields::Unnamed(fields) => match fields.unnamed.first() {
                    Some(field) => self.kind(&field.ty)?,
                    None => continue,
                },
            };
            words.push(word);
        }
        Ok(words.join(" or "))
    }

    /// What `Default` makes of a type that says nothing else.
    fn empty(&self, ty: &Type) -> String {
        let name = type_name(ty);
        let marked = self.enums.get(&name).and_then(|item| {
            let is_default = |variant: &&syn::Variant| {
                variant
                    .attrs
                    .iter()
                    .any(|attribute| attribute.path().is_ident("default"))
            };
            let variant = item.variants.iter().find(is_default)?;
            Some(format!("`{}`", spelled_variant(item, variant)))
        });
        if let Some(word) = marked {
            return word;
        }
        let text = match name.as_str() {
            "Vec" | "BTreeMap" => "empty",
            "bool" => "`false`",
            "String" => "empty",
            "Option" => "none",
            "f64" | "f32" | "WholeNumber" | "u64" | "u32" | "usize" => "`0`",
            _ => "that of its fields",
        };
        text.to_string()
    }
}

/// Does serde read this type field by field? Else it has a way of its own, which its comment tells.
fn reads_fields(item: &ItemStruct) -> bool {
    let mut derived = false;
    for attribute in item
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("derive"))
    {
        // A list of traits cannot be wrong in code that compiles.
        let _ = attribute.parse_nested_meta(|meta| {
            derived |= meta.path.is_ident("Deserialize");
            Ok(())
        });
    }
    derived && matches!(item.fields, Fields::Named(_))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), XtaskError> {
    let entries = fs::read_dir(folder).map_err(XtaskError::file("read", folder))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// The last part of a type's path: `u32`, `Vec`, `RawModel`.
fn type_name(ty: &Type) -> String {
    match ty {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .map_or_else(String::new, |part| part.ident.to_string()),
        _ => String::new(),
    }
}

/// `T` of `Option<T>`, `Vec<T>` or `BTreeMap<K, T>`, where `ty` is one of that name.
fn generic<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(path) = ty else { return None };
    let last = path
        .path
        .segments
        .last()
        .filter(|part| part.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.last()? {
        GenericArgument::Type(inner) => Some(inner),
        _ => None,
    }
}

/// `#[serde(word)]` is `Some(None)`, `#[serde(word = "text")]` is `Some(Some(text))`.
fn serde_word(attributes: &[Attribute], word: &str) -> Option<Option<String>> {
    let mut found = None;
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("serde"))
    {
        // What cannot be read here is another word with arguments, and not the one looked for.
        let _ = attribute.parse_nested_meta(|meta| {
            let text = match meta.value() {
                Ok(value) => Some(value.parse::<syn::LitStr>()?.value()),
                Err(_) => None,
            };
            if meta.path.is_ident(word) {
                found = Some(text);
            }
            Ok(())
        });
    }
    found
}

/// A variant as the configuration spells it.
fn spelled_variant(item: &ItemEnum, variant: &syn::Variant) -> String {
    if let Some(Some(name)) = serde_word(&variant.attrs, "rename") {
        return name;
    }
    let name = variant.ident.to_string();
    match serde_word(&item.attrs, "rename_all").flatten().as_deref() {
        Some("lowercase") => name.to_lowercase(),
        Some("snake_case") => separated(&name, '_'),
        Some("kebab-case") => separated(&name, '-'),
        _ => name,
    }
}

fn separated(name: &str, by: char) -> String {
    let mut spelled = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !spelled.is_empty() {
            spelled.push(by);
        }
        spelled.extend(letter.to_lowercase());
    }
    spelled
}

/// A comment as one line.
fn doc(attributes: &[Attribute]) -> String {
    let mut words = Vec::new();
    for attribute in attributes {
        if let Meta::NameValue(pair) = &attribute.meta
            && pair.path.is_ident("doc")
            && let Expr::Lit(literal) = &pair.value
            && let Lit::Str(text) = &literal.lit
        {
            words.extend(text.value().split_whitespace().map(str::to_string));
        }
    }
    words.join(" ")
}

/// A comment without its sentence `Default: ….`, and what that says.
fn split_default(comment: &str) -> (String, Option<String>) {
    let Some((before, after)) = comment.split_once("Default: ") else {
        return (comment.to_string(), None);
    };
    let (said, rest) = after
        .split_once(". ")
        .unwrap_or((after.trim_end_matches('.'), ""));
    let meaning = format!("{before}{rest}").trim().to_string();
    (meaning, Some(said.to_string()))
}

fn first_sentence(comment: &str) -> Option<String> {
    let sentence = comment
        .split_once(". ")
        .map_or(comment, |(sentence, _)| sentence);
    Some(sentence.trim_end_matches('.').to_string()).filter(|text| !text.is_empty())
}
