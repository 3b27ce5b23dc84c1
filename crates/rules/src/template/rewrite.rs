//! Mending a parsed template so that its execution is Go's.

use std::collections::BTreeSet;

use gotmpl::Template;
use gotmpl::parse::{ActionNode, BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos};

use super::functions;

/// Gives the empty text for a missing label.
pub(super) const OR_EMPTY: &str = "__or_empty";
/// Refuses a value that is too large.
pub(super) const BOUNDED: &str = "__bounded";
/// Prints a value as Go does.
pub(super) const PRINTED: &str = "__printed";
/// Makes a number text for the verb `%v`.
pub(super) const ARGUMENT: &str = "__argument";
/// Calls a method of a value.
pub(super) const METHOD: &str = "__method";

/// What is put behind a template to see whether it was read to its end.
const LAST: &str = "\u{1}end";

/// Parses a text into its trees by name; the main one has the name `page`, the defined ones begin with it.
pub(super) fn trees(rule: &str, text: &str, page: &str) -> Result<Vec<(String, ListNode)>, String> {
    let name = format!("__alert_{rule}");
    let failed = |message: String| format!("error parsing template {name}: {message}");
    let parse = |text: &str| Template::new(&name).parse(text).map_err(|err| failed(err.to_string()));
    parse(text)?;
    // The parser ends silently at an `end` that closes nothing, so the last thing in the tree must be what was put there.
    let template = parse(&format!("{text}{LAST}"))?;
    let mut rewriter = Rewriter { page, own: &name, known: functions::names(), problem: None, depth: 0 };
    let mut found = Vec::new();
    for defined in template.templates() {
        let Some(tree) = template.lookup(defined) else { continue };
        let mut tree = tree.clone();
        if defined == name && !take_last(&mut tree) {
            rewriter.complain(tree.pos, "unexpected {{end}} or {{else}}".to_owned());
        }
        let tree = rewriter.list(tree, &mut vec![BTreeSet::from(["$".to_owned()])]);
        found.push((rewriter.page_of(defined), tree));
    }
    match rewriter.problem {
        Some((line, message)) => Err(failed(format!("template: {name}:{line}: {message}"))),
        None => Ok(found),
    }
}

/// Removes the mark at the end of the main tree; false when it is not there.
fn take_last(tree: &mut ListNode) -> bool {
    let Some(Node::Text(last)) = tree.nodes.last_mut() else { return false };
    let Some(text) = last.text.strip_suffix(LAST) else { return false };
    last.text = text.into();
    true
}

/// Names of variables by block, the innermost last.
type Scopes = Vec<BTreeSet<String>>;

struct Rewriter<'a> {
    page: &'a str,
    own: &'a str,
    known: &'a BTreeSet<String>,
    /// The first thing that is wrong.
    problem: Option<(usize, String)>,
    depth: usize,
}

impl Rewriter<'_> {
    fn page_of(&self, name: &str) -> String {
        if name == self.own { self.page.to_owned() } else { format!("{}/{name}", self.page) }
    }

    fn complain(&mut self, pos: Pos, message: String) {
        self.problem.get_or_insert((pos.line, message));
    }

    fn list(&mut self, mut list: ListNode, scopes: &mut Scopes) -> ListNode {
        list.nodes = list.nodes.into_iter().map(|node| self.node(node, scopes)).collect();
        list
    }

    fn node(&mut self, node: Node, scopes: &mut Scopes) -> Node {
        match node {
            Node::List(list) => Node::List(self.list(list, scopes)),
            Node::Action(ActionNode { pos, pipe }) => {
                let mut pipe = self.pipe(pipe, scopes);
                if pipe.decl.is_empty() {
                    pipe.commands.push(call(pos, PRINTED, Vec::new()));
                }
                Node::Action(ActionNode { pos, pipe })
            }
            Node::If(branch) => Node::If(self.branch(branch, scopes)),
            Node::Range(branch) => Node::Range(self.branch(branch, scopes)),
            Node::With(branch) => Node::With(self.branch(branch, scopes)),
            Node::Template(mut template) => {
                template.name = self.page_of(&template.name).into();
                template.pipe = template.pipe.map(|pipe| self.pipe(pipe, scopes));
                Node::Template(template)
            }
            other => other,
        }
    }

    fn branch(&mut self, mut branch: BranchNode, scopes: &mut Scopes) -> BranchNode {
        self.depth += 1;
        if self.depth > 100 {
            self.complain(branch.pos, "too many nested blocks".to_owned());
            self.depth -= 1;
            return branch;
        }
        scopes.push(BTreeSet::new());
        branch.pipe = self.pipe(branch.pipe, scopes);
        scopes.push(BTreeSet::new());
        branch.body = self.list(branch.body, scopes);
        scopes.pop();
        branch.else_body = branch.else_body.map(|body| self.list(body, scopes));
        scopes.pop();
        self.depth -= 1;
        branch
    }

    fn pipe(&mut self, mut pipe: PipeNode, scopes: &mut Scopes) -> PipeNode {
        let mut commands = Vec::with_capacity(pipe.commands.len() * 2);
        for (i, command) in pipe.commands.into_iter().enumerate() {
            let pos = command.pos;
            let format = command.args.get(1).filter(|_| is_call(&command, "printf")).cloned();
            if let (1.., Some(format)) = (i, format) {
                let place = command.args.len() - 2;
                commands.push(call(pos, ARGUMENT, vec![format, number(pos, place)]));
            }
            let calls = matches!(command.args.first(), Some(Expr::Identifier(..) | Expr::Chain(..)));
            commands.push(self.command(command, scopes));
            if calls {
                commands.push(call(pos, BOUNDED, Vec::new()));
            }
        }
        pipe.commands = commands;
        if !pipe.is_assign
            && let Some(scope) = scopes.last_mut()
        {
            scope.extend(pipe.decl.iter().map(|name| name.to_string()));
        }
        pipe
    }

    fn command(&mut self, mut command: CommandNode, scopes: &Scopes) -> CommandNode {
        let mut scopes = scopes.clone();
        let arguments = command.args.len();
        let pos = command.pos;
        if is_call(&command, "printf") {
            let format = command.args.get(1).cloned();
            for (place, arg) in command.args.iter_mut().skip(2).enumerate() {
                let value = std::mem::replace(arg, Expr::Nil(pos));
                *arg = as_argument(pos, call(pos, ARGUMENT, format.iter().cloned().chain([number(pos, place), value]).collect()));
            }
        } else if arguments == 2 && (is_call(&command, "print") || is_call(&command, "println")) {
            let value = std::mem::replace(&mut command.args[1], Expr::Nil(pos));
            command.args[1] = as_argument(pos, call(pos, PRINTED, vec![value]));
        }
        command.args = command.args.into_iter().enumerate().map(|(i, arg)| self.expr(arg, i == 0 && arguments > 1, &mut scopes)).collect();
        // `(toTime x).Format "2006"`: the function is a field of a value, found when it is executed.
        if let [Expr::Pipe(pos, pipe), ..] = &command.args[..]
            && arguments > 1
            && let Some((value, method)) = method_of(pipe)
        {
            let pos = *pos;
            let rest = command.args.split_off(1);
            command.args = vec![identifier(pos, METHOD), value, Expr::String(pos, method.into())];
            command.args.extend(rest);
        }
        command
    }

    fn expr(&mut self, expr: Expr, called: bool, scopes: &mut Scopes) -> Expr {
        match expr {
            Expr::Identifier(pos, name) => {
                if !self.known.contains(name.as_str()) && !matches!(name.as_str(), ARGUMENT | PRINTED) {
                    self.complain(pos, format!("function {:?} not defined", name.as_str()));
                }
                Expr::Identifier(pos, name)
            }
            Expr::Variable(pos, name, fields) => {
                if !scopes.iter().any(|scope| scope.contains(name.as_str())) {
                    self.complain(pos, format!("undefined variable {:?}", name.as_str()));
                }
                if fields.is_empty() { Expr::Variable(pos, name, fields) } else { or_empty(pos, Expr::Variable(pos, name, fields)) }
            }
            Expr::Field(pos, fields) => or_empty(pos, Expr::Field(pos, fields)),
            Expr::Pipe(pos, pipe) => {
                self.depth += 1;
                let pipe = if self.depth > 100 {
                    self.complain(pos, "too many nested parentheses".to_owned());
                    pipe
                } else {
                    self.pipe(pipe, scopes)
                };
                self.depth -= 1;
                Expr::Pipe(pos, pipe)
            }
            Expr::Chain(pos, inner, fields) => {
                let is_function = matches!(*inner, Expr::Identifier(..));
                let inner = self.expr(*inner, false, scopes);
                let chain = Expr::Chain(pos, Box::new(inner), fields);
                if is_function && called { chain } else { or_empty(pos, chain) }
            }
            other => other,
        }
    }
}

fn identifier(pos: Pos, name: &str) -> Expr {
    Expr::Identifier(pos, name.into())
}

fn call(pos: Pos, name: &str, args: Vec<Expr>) -> CommandNode {
    let mut all = vec![identifier(pos, name)];
    all.extend(args);
    CommandNode { pos, args: all }
}

fn number(pos: Pos, number: usize) -> Expr {
    Expr::Number(pos, Number::Int(number as i64))
}

fn is_call(command: &CommandNode, function: &str) -> bool {
    matches!(command.args.first(), Some(Expr::Identifier(_, name)) if name.as_str() == function)
}

fn as_argument(pos: Pos, command: CommandNode) -> Expr {
    Expr::Pipe(pos, PipeNode { pos, decl: Vec::new(), commands: vec![command], is_assign: false })
}

fn or_empty(pos: Pos, value: Expr) -> Expr {
    Expr::Pipe(pos, PipeNode { pos, decl: Vec::new(), commands: vec![call(pos, OR_EMPTY, vec![value])], is_assign: false })
}

/// The value and the name of a field access that [`or_empty`] wrapped.
fn method_of(pipe: &PipeNode) -> Option<(Expr, String)> {
    let [command] = &pipe.commands[..] else { return None };
    let [Expr::Identifier(_, name), value] = &command.args[..] else { return None };
    if name.as_str() != OR_EMPTY {
        return None;
    }
    let split = |fields: &[_]| -> Option<(Vec<_>, String)> {
        let (last, front) = fields.split_last()?;
        Some((front.to_vec(), ToString::to_string(last)))
    };
    match value {
        Expr::Chain(pos, inner, fields) => split(fields).map(|(front, last)| {
            let value = if front.is_empty() { (**inner).clone() } else { Expr::Chain(*pos, inner.clone(), front) };
            (value, last)
        }),
        Expr::Variable(pos, name, fields) => split(fields).map(|(front, last)| (Expr::Variable(*pos, name.clone(), front), last)),
        Expr::Field(pos, fields) => split(fields).map(|(front, last)| {
            let value = if front.is_empty() { Expr::Dot(*pos) } else { Expr::Field(*pos, front) };
            (value, last)
        }),
        _ => None,
    }
}
