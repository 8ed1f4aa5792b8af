//! Defaults, read from the code that makes them: `impl Default`, functions that serde calls, and
//! the constants that both name.

use std::collections::BTreeMap;
use syn::{BinOp, Block, Expr, ImplItem, Item, ItemImpl, Lit, Stmt, Type};

/// What the code says that a field is when it is left out.
#[derive(Default)]
pub struct Defaults {
    /// `impl Default`: by type and field.
    fields: BTreeMap<(String, String), Expr>,
    functions: BTreeMap<String, Expr>,
    constants: BTreeMap<String, Expr>,
    /// Variants of enums, as the configuration spells them.
    words: BTreeMap<String, String>,
}

impl Defaults {
    pub fn add(&mut self, item: Item) {
        match item {
            Item::Const(item) => drop(self.constants.insert(item.ident.to_string(), *item.expr)),
            Item::Fn(item) => {
                if let Some(value) = value_of(&item.block) {
                    self.functions
                        .insert(item.sig.ident.to_string(), value.clone());
                }
            }
            Item::Impl(item) => self.add_impl(&item),
            _ => {}
        }
    }

    /// A variant of an enum, such as `RawSampled::Never`, is written `word`.
    pub fn add_word(&mut self, variant: String, word: String) {
        self.words.insert(variant, word);
    }

    fn add_impl(&mut self, item: &ItemImpl) {
        let of_default = item
            .trait_
            .as_ref()
            .and_then(|(path, _)| path.segments.last());
        let Type::Path(owner) = item.self_ty.as_ref() else {
            return;
        };
        let Some(owner) = owner.path.segments.last() else {
            return;
        };
        if of_default.is_none_or(|name| name.ident != "Default") {
            return;
        }
        let made = item.items.iter().find_map(|item| match item {
            ImplItem::Fn(function) => value_of(&function.block),
            _ => None,
        });
        let Some(Expr::Struct(made)) = made else {
            return;
        };
        for field in &made.fields {
            if let syn::Member::Named(name) = &field.member {
                let key = (owner.ident.to_string(), name.to_string());
                self.fields.insert(key, field.expr.clone());
            }
        }
    }

    /// The default of a field by its type's `impl Default`; `None` where the type derives it.
    pub fn of_field(&self, owner: &str, field: &str) -> Result<Option<String>, String> {
        let key = (owner.to_string(), field.to_string());
        self.fields
            .get(&key)
            .map(|expression| self.say(expression))
            .transpose()
    }

    /// What the function of `#[serde(default = "…")]` returns.
    pub fn of_function(&self, path: &str) -> Result<String, String> {
        let name = path.rsplit("::").next().unwrap_or(path);
        let body = self.functions.get(name);
        self.say(body.ok_or_else(|| format!("the function `{path}` is unknown"))?)
    }

    fn say(&self, expression: &Expr) -> Result<String, String> {
        if let Some(number) = self.number(expression) {
            return Ok(format!("`{number}`"));
        }
        match expression {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Bool(value) => Ok(format!("`{}`", value.value)),
                Lit::Str(text) => Ok(format!("`{}`", text.value())),
                Lit::Float(value) => Ok(format!("`{}`", value.base10_digits())),
                _ => Err("a default of an unknown kind".to_string()),
            },
            Expr::Call(call) => match call.args.first() {
                Some(inner) => self.say(inner),
                None => Ok("empty".to_string()),
            },
            Expr::MethodCall(call) => self.say(&call.receiver),
            Expr::Reference(reference) => self.say(&reference.expr),
            Expr::Paren(paren) => self.say(&paren.expr),
            Expr::Macro(_) => Ok("empty".to_string()),
            Expr::Path(path) => {
                let parts = path.path.segments.iter().map(|part| part.ident.to_string());
                let name = parts.collect::<Vec<_>>().join("::");
                match (
                    name.as_str(),
                    self.words.get(&name),
                    self.constants.get(&name),
                ) {
                    ("None", _, _) => Ok("none".to_string()),
                    (_, Some(word), _) => Ok(format!("`{word}`")),
                    (_, None, Some(constant)) => self.say(constant),
                    _ => Err(format!("a default that names `{name}`, which is unknown")),
                }
            }
            _ => Err("a default that is computed".to_string()),
        }
    }

    /// The value of an expression of whole numbers.
    fn number(&self, expression: &Expr) -> Option<u64> {
        match expression {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Int(value) => value.base10_parse().ok(),
                _ => None,
            },
            Expr::Cast(cast) => self.number(&cast.expr),
            Expr::Paren(paren) => self.number(&paren.expr),
            Expr::Call(call) if call.args.len() == 1 => self.number(call.args.first()?),
            Expr::Path(path) => {
                let name = path.path.segments.last()?.ident.to_string();
                self.number(self.constants.get(&name)?)
            }
            Expr::Binary(binary) => {
                let (left, right) = (self.number(&binary.left)?, self.number(&binary.right)?);
                match binary.op {
                    BinOp::Mul(_) => left.checked_mul(right),
                    BinOp::Add(_) => left.checked_add(right),
                    BinOp::Shl(_) => left.checked_shl(u32::try_from(right).ok()?),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// The value that a block ends with.
fn value_of(block: &Block) -> Option<&Expr> {
    match block.stmts.last()? {
        Stmt::Expr(expression, None) => Some(expression),
        _ => None,
    }
}
