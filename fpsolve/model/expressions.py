"""Formulas written by users: text -> SymPy tree -> derivatives -> NumPy.

The text is parsed by `ast` and rebuilt node by node against an allowlist; none of it is ever executed.
Parts without variables become floating-point numbers at once: SymPy would compute 9**9**9 exactly.
"""

import ast
import functools
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
import numpy.typing as npt
import scipy.special
import sympy
from sympy.core.symbol import Str
from sympy.printing.numpy import NumPyPrinter
from sympy.printing.str import StrPrinter

from fpsolve.errors import CaseError, did_you_mean

FloatArray = npt.NDArray[np.float64]

LONGEST_TEXT = 2000  # characters
MOST_NODES = 1000
DEEPEST_NESTING = 100  # of the text, where every term of a sum opens a level
DEEPEST_TREE = 50  # of the tree, where a sum is one level; SymPy and Python recurse ten times per level
LARGEST_EXPONENT = 64
FINITE = "A formula must be real, and its constants at most 1.8e308"


class _Call(sympy.Expr):  # type: ignore[misc]  # SymPy has no types
    """A NumPy function, by name, of real trees: _Call(Str("tanh"), x).

    SymPy's own functions, Piecewise, Max and relations rewrite themselves while they are built: a dozen nested
    tanh then take minutes, and derivatives turn into Dirac deltas and real parts. This one just stands there.
    """

    is_commutative = True
    is_extended_real = True

    def _eval_derivative(self, symbol: sympy.Symbol) -> sympy.Expr:
        name, *values = self.args
        match str(name), values:
            # Not the chain rule's sum of products: 0*nan from the branch not taken would be nan.
            case "where", [condition, inside, outside]:
                return _where(condition, inside.diff(symbol), outside.diff(symbol))
            case "maximum", [first, second]:
                return _where(_call("less", first, second), second.diff(symbol), first.diff(symbol))
            case "minimum", [first, second]:
                return _where(_call("less", first, second), first.diff(symbol), second.diff(symbol))
            case function, [inner]:
                return FUNCTIONS[function].slope(inner) * inner.diff(symbol)
        raise NotImplementedError(name)  # conditions have no derivative, and where() asks for none

    def _sympystr(self, printer: StrPrinter) -> str:
        name, *values = self.args
        return f"{name}({', '.join(printer._print(value) for value in values)})"

    _numpycode = _sympystr


def _call(name: str, *values: sympy.Expr) -> sympy.Expr:
    return _Call(Str(name), *values)


def _where(condition: sympy.Expr, inside: sympy.Expr, outside: sympy.Expr) -> sympy.Expr:
    return inside if inside == outside else _call("where", condition, inside, outside)


def _caller(name: str) -> Callable[..., sympy.Expr]:
    return functools.partial(_call, name)


def _joiner(name: str) -> Callable[..., sympy.Expr]:
    """Join many trees with a function of two, by halves: a chain as deep as it is long would overflow the stack."""

    def join(*trees: sympy.Expr) -> sympy.Expr:
        middle = len(trees) // 2
        return _call(name, join(*trees[:middle]), join(*trees[middle:])) if middle else trees[0]

    return join


def _flat(_inner: sympy.Expr) -> sympy.Expr:
    return sympy.Integer(0)


class _Function(NamedTuple):
    compute: Callable[..., Any]  # of numbers and arrays
    slope: Callable[[sympy.Expr], sympy.Expr] = _flat  # derivative of a function of one argument
    build: Callable[..., sympy.Expr] | None = None  # other than a call by the same name
    arguments: int | None = 1  # None: any number from 1


FUNCTIONS: dict[str, _Function] = {
    "abs": _Function(np.abs, _caller("sign")),
    "cos": _Function(np.cos, lambda inner: -_call("sin", inner)),
    "cosh": _Function(np.cosh, _caller("sinh")),
    "erf": _Function(scipy.special.erf, lambda inner: sympy.Float(2 / math.sqrt(math.pi)) * _call("exp", -(inner**2))),
    "exp": _Function(np.exp, _caller("exp")),
    "heaviside": _Function(lambda value: np.heaviside(value, 0.5)),
    "log": _Function(np.log, lambda inner: 1 / inner),
    "max": _Function(lambda *values: max(values), build=_joiner("maximum"), arguments=None),
    "min": _Function(lambda *values: min(values), build=_joiner("minimum"), arguments=None),
    "sign": _Function(np.sign),
    "sin": _Function(np.sin, _caller("cos")),
    "sinh": _Function(np.sinh, _caller("cosh")),
    "sqrt": _Function(np.sqrt, build=sympy.sqrt),
    "tan": _Function(np.tan, lambda inner: 1 + _call("tan", inner) ** 2),
    "tanh": _Function(np.tanh, lambda inner: 1 - _call("tanh", inner) ** 2),
    "where": _Function(np.where, arguments=3),
}
TIME, STEP = "t", "k"  # time, and the count of SGD steps
RESERVED_NAMES = (*FUNCTIONS, "pi", TIME, STEP)

_OPERATORS: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


class _Logic(NamedTuple):
    """What comparisons, and, or, not mean."""

    compare: Mapping[type[ast.cmpop], Callable[..., sympy.Expr]]
    all_of: Callable[..., sympy.Expr]
    any_of: Callable[..., sympy.Expr]
    negate: Callable[[sympy.Expr], sympy.Expr]


_TRUTH = _Logic(
    {
        ast.Lt: _caller("less"),
        ast.LtE: _caller("less_equal"),
        ast.Gt: _caller("greater"),
        ast.GtE: _caller("greater_equal"),
        ast.Eq: _caller("equal"),
        ast.NotEq: _caller("not_equal"),
    },
    all_of=_joiner("logical_and"),
    any_of=_joiner("logical_or"),
    negate=_caller("logical_not"),
)
_LEVEL_SET = _Logic(
    {
        ast.Lt: lambda left, right: right - left,
        ast.LtE: lambda left, right: right - left,
        ast.Gt: operator.sub,
        ast.GtE: operator.sub,
    },
    all_of=_joiner("minimum"),
    any_of=_joiner("maximum"),
    negate=operator.neg,
)


@final
@dataclass(frozen=True, slots=True)
class Expression:
    """A real function of the coordinates, and perhaps of time; made by `parse`, `schedule` or `parse_level_set`."""

    text: str
    tree: sympy.Expr
    variables: tuple[str, ...]  # in the order of the coordinates

    @classmethod
    def parse(
        cls,
        text: str | float,
        variables: Sequence[str],
        parameters: Mapping[str, float],
        where: str,
        *,
        timed: bool = False,
    ) -> "Expression":
        """Read a formula, or a number as a constant.

        Parameters
        ----------
        text : such as "(x**2 - 1)**2 + k0*y**2".
        variables : names of the coordinates, in grid order.
        parameters : values of the other names.
        where : the place to name in errors, such as "landscape.loss".
        timed : whether the formula may name the time, t.

        Raises
        ------
        CaseError : the text is not a formula, uses what is not allowed, is too large,
            or holds a constant that is not a finite real number; quotes the piece.
        """
        if isinstance(text, str):
            return _parsed(text, tuple(variables), tuple(parameters.items()), where, timed)
        reader = _reader(text, variables, parameters, where, timed=timed)
        return reader.expression(reader.value)

    @classmethod
    def schedule(cls, text: str | float, parameters: Mapping[str, float], where: str) -> "Expression":
        """Read a formula in the time t and the count k of SGD steps, which are its coordinates. Raises CaseError."""
        _check_names(parameters, (), where)
        reader = _Reader(_one_line(text, where), (TIME, STEP), parameters, where)
        return reader.expression(reader.value)

    @property
    def is_constant(self) -> bool:
        """Whether no variable occurs: the same everywhere, though perhaps not at all times."""
        return _symbols(self.tree) <= {_symbol(TIME)} - set(map(_symbol, self.variables))

    @property
    def names(self) -> frozenset[str]:
        """The variables that occur, and the time."""
        return frozenset(symbol.name for symbol in _symbols(self.tree))

    @property
    def depends_on_time(self) -> bool:
        """Whether the time occurs."""
        return _symbol(TIME) in _symbols(self.tree)

    def derivative(self, variable_index: int) -> "Expression":
        """Differentiate by one variable, almost everywhere: jumps of sign, heaviside and where add nothing."""
        name = self.variables[variable_index]
        tree = _tidied(self.tree.diff(_symbol(name)))
        return Expression(f"d({self.text})/d{name}", tree, self.variables)

    def gradient(self) -> "ExpressionArray":
        """Return the first derivatives, shape (axes,)."""
        return ExpressionArray.of([self.derivative(axis) for axis in range(len(self.variables))])

    def hessian(self) -> "ExpressionArray":
        """Return the second derivatives, shape (axes, axes)."""
        axes = range(len(self.variables))
        first = [self.derivative(axis) for axis in axes]
        # The same tree on both sides of the diagonal: symmetric to the last bit.
        second = {(row, column): first[row].derivative(column) for row in axes for column in axes[row:]}
        return ExpressionArray.of([[second[min(row, column), max(row, column)] for column in axes] for row in axes])

    def __call__(self, positions: FloatArray, time: float = 0.0) -> FloatArray:
        """Evaluate at positions of shape (axes, points); returns shape (points,), inf or nan where undefined."""
        return ExpressionArray((self,), ())(positions, time)


@final
@dataclass(frozen=True, slots=True)
class ExpressionArray:
    """Expressions of the same variables in an array of any shape; what they have in common is computed once."""

    entries: tuple[Expression, ...]  # the last index fastest
    shape: tuple[int, ...]

    @classmethod
    def of(cls, nested: Sequence[Any]) -> "ExpressionArray":
        """Gather nested sequences of expressions, such as the rows of a matrix.

        Raises
        ------
        ValueError : the rows differ in length, or the expressions in their variables.
        """
        array = np.array(nested, dtype=object)
        entries = tuple(array.ravel())
        alike = all(isinstance(entry, Expression) and entry.variables == entries[0].variables for entry in entries)
        if not entries or not alike:
            message = "an ExpressionArray needs rows of equal length, filled with expressions of the same variables"
            raise ValueError(message)
        return cls(entries, array.shape)

    @property
    def is_constant(self) -> bool:
        """Whether no variable occurs in any entry."""
        return all(entry.is_constant for entry in self.entries)

    def __call__(self, positions: FloatArray, time: float = 0.0) -> FloatArray:
        """Evaluate at positions of shape (axes, points); returns shape (*shape, points), inf or nan where undefined."""
        positions = np.asarray(positions, dtype=np.float64)
        variables = self.entries[0].variables
        if len(positions) != len(variables):
            message = f"positions have {len(positions)} coordinates for the variables {', '.join(variables)}"
            raise ValueError(message)
        function = _compiled(tuple(entry.tree for entry in self.entries), variables)
        values = np.empty((len(self.entries), *positions.shape[1:]))
        with np.errstate(all="ignore"):
            for index, value in enumerate(function(*positions, time)):
                values[index] = value  # a constant fills its row
        return values.reshape(*self.shape, *positions.shape[1:])


def parse_level_set(text: str, variables: Sequence[str], parameters: Mapping[str, float], where: str) -> Expression:
    """Read a region such as "x > 0.8 and y < 1" as its level set: positive inside, negative outside.

        a > b, a >= b: a - b    a < b, a <= b: b - a    and: min    or: max    not g: -g

    Raises
    ------
    CaseError : as Expression.parse; or there is no comparison, or it is == or !=.
    """
    reader = _reader(text, variables, parameters, where)
    return reader.expression(lambda node: reader.logical(node, _LEVEL_SET))


@functools.lru_cache(maxsize=256)
def _parsed(
    text: str, variables: tuple[str, ...], parameters: tuple[tuple[str, float], ...], where: str, timed: bool
) -> Expression:
    reader = _reader(text, variables, dict(parameters), where, timed=timed)
    return reader.expression(reader.value)


def _reader(
    text: str | float, variables: Sequence[str], parameters: Mapping[str, float], where: str, *, timed: bool = False
) -> "_Reader":
    _check_names(variables, (), where)
    _check_names(parameters, variables, where)
    return _Reader(_one_line(text, where), tuple(variables), parameters, where, timed)


def _one_line(text: str | float, where: str) -> str:
    """The text on one line, so that line breaks in the case file neither end the formula nor indent it."""
    if isinstance(text, bool) or not isinstance(text, str | int | float | np.integer | np.floating):
        raise CaseError(where, f"{text!r} is not a formula", "A text or a number is required")
    return " ".join(text.split()) if isinstance(text, str) else str(text)


def _check_names(names: Iterable[str], taken: Sequence[str], where: str) -> None:
    for name in names:
        if name in RESERVED_NAMES or name in taken or not name.isidentifier():
            found = f'"{name}" cannot be the name of a variable or parameter'
            raise CaseError(where, found, f"Taken are {', '.join(RESERVED_NAMES)}", "Choose another name")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Builds the SymPy tree of one text, refusing whatever is not on the list."""

    text: str
    variables: tuple[str, ...]
    parameters: Mapping[str, float]
    where: str
    timed: bool = False

    def expression(self, build: Callable[[ast.expr], sympy.Expr]) -> Expression:
        tree = build(self.syntax_tree())
        if _depth(tree) > DEEPEST_TREE:
            raise self.nested_too_deeply(DEEPEST_TREE)
        return Expression(self.text, tree, self.variables)

    def syntax_tree(self) -> ast.expr:
        if len(self.text) > LONGEST_TEXT:
            raise CaseError(self.where, f"the formula has {len(self.text)} characters", f"At most {LONGEST_TEXT}")
        try:
            body = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError) as error:  # ValueError: null bytes
            column = getattr(error, "offset", None) or len(self.text) + 1  # 0 or None where the text ends too early
            reason = f"{getattr(error, 'msg', error)} at column {column}"
            found = f'"{_shortened(self.text)}" cannot be read: {reason}'
            raise CaseError(self.where, found, "A formula such as x**2 + 1 is required") from None
        except (RecursionError, MemoryError):
            raise self.nested_too_deeply(DEEPEST_NESTING) from None
        self.check_size(body)
        return body

    def check_size(self, body: ast.expr) -> None:
        nodes, depth, layer = 0, 0, [body]
        while layer:
            nodes, depth = nodes + len(layer), depth + 1
            layer = [child for node in layer for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        if nodes > MOST_NODES:
            found = f"the formula has {nodes} numbers, names and operations"
            raise CaseError(self.where, found, f"At most {MOST_NODES}")
        if depth > DEEPEST_NESTING:
            raise self.nested_too_deeply(DEEPEST_NESTING)

    def value(self, node: ast.expr) -> sympy.Expr:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return self.number(node, number)
            case ast.Name(id=name):
                return self.named(node, name)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.value(operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.BinOp(left=left, op=symbol, right=right) if type(symbol) in _OPERATORS:
                apply = _OPERATORS[type(symbol)]
                return self.applied(node, apply, apply, self.value(left), self.value(right))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self.call(node, name, arguments)
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                required = "Comparisons, and, or, not belong in regions and in the first argument of where"
                raise self.refusal(node, "is not a number", required, "Write where(x > 0, 1, 0)")
            case _:
                remedy = "Write ** for powers" if isinstance(getattr(node, "op", None), ast.BitXor) else ""
                raise self.refusal(node, "is not allowed", self.allowed(), remedy)

    def number(self, node: ast.expr, value: float) -> sympy.Expr:
        """Keep small binary fractions exact: 2.0 is then the exponent 2, and (x**2)**0.5 is |x|."""
        try:
            numerator, denominator = float(value).as_integer_ratio()
        except (OverflowError, ValueError):  # infinite, not a number
            raise self.refusal(node, "is not a finite real number", FINITE) from None
        exact = abs(numerator) < 2**53 and denominator <= 64
        return sympy.Rational(numerator, denominator) if exact else sympy.Float(float(value))

    def named(self, node: ast.expr, name: str) -> sympy.Expr:
        if name in self.variables:
            return _symbol(name)
        if name in self.parameters:
            return self.number(node, self.parameters[name])
        if name == "pi":
            return self.number(node, math.pi)
        if name == TIME and self.timed:
            return _symbol(TIME)
        if name in (TIME, STEP):
            required = "Drift and diffusion may depend on the time t, schedules of the noise also on the SGD step k"
            raise self.refusal(node, "is reserved for time", required, "Use a number or a parameter")
        if name in ("inf", "nan"):
            raise self.refusal(node, "is not a finite real number", FINITE)
        if name in FUNCTIONS:
            raise self.refusal(node, "is a function without its arguments", remedy=f"Write {name}(...)")
        hint = did_you_mean(name, (*self.variables, *self.parameters, *RESERVED_NAMES))
        raise self.refusal(node, "is not a known name", self.allowed(), hint)

    def call(self, node: ast.expr, name: str, arguments: list[ast.expr]) -> sympy.Expr:
        if name not in FUNCTIONS:
            factor = name in self.variables or name in self.parameters
            remedy = f"Write {name}*(...) to multiply" if factor else did_you_mean(name, FUNCTIONS)
            raise self.refusal(node, f'calls "{name}", which is not a known function', self.allowed(), remedy)
        function = FUNCTIONS[name]
        if not arguments or len(arguments) != (function.arguments or len(arguments)):
            found = f"has the wrong number of arguments, {len(arguments)}"
            remedy = "Write where(condition, value if true, value if false)" if name == "where" else ""
            raise self.refusal(node, found, f"{name} takes {function.arguments or 'at least 1'}", remedy)
        if name == "where":
            return _where(self.logical(arguments[0], _TRUTH), self.value(arguments[1]), self.value(arguments[2]))
        build = function.build or _caller(name)
        return self.applied(node, build, function.compute, *(self.value(argument) for argument in arguments))

    def applied(
        self, node: ast.expr, build: Callable[..., Any], compute: Callable[..., Any], *values: sympy.Expr
    ) -> sympy.Expr:
        """Apply a function or operator: to numbers at once in floating point, otherwise symbolically."""
        if all(value.is_Number for value in values):
            with np.errstate(all="ignore"):
                return self.number(node, compute(*(np.float64(value) for value in values)))
        if build is operator.pow:  # before SymPy raises the numbers in the base
            self.check_exponent(node, values[1])
        return self.checked(node, build(*values))

    def checked(self, node: ast.expr, tree: sympy.Expr) -> sympy.Expr:
        """Refuse what SymPy's own rewriting may lead to: (x**64)**64, 1/(x - x), sqrt(-x**2), 1e300*(1e300*x)."""
        tree = _tidied(tree)
        powers = tree.atoms(sympy.Pow)
        for power in powers:
            self.check_exponent(node, power.exp)
        unreal = tree.has(sympy.I, sympy.nan, sympy.zoo, sympy.oo, -sympy.oo) or any(
            power.base.is_negative for power in powers if power.base.is_Number
        )
        if unreal or not all(math.isfinite(number) for number in tree.atoms(sympy.Float)):
            raise self.refusal(node, "is nowhere a finite real number", FINITE)
        return tree

    def check_exponent(self, node: ast.expr, exponent: sympy.Expr) -> None:
        if exponent.is_Number and abs(exponent) > LARGEST_EXPONENT:
            raise self.refusal(node, "has too large an exponent", f"Constant exponents go up to {LARGEST_EXPONENT}")

    def logical(self, node: ast.expr, logic: _Logic) -> sympy.Expr:
        """Build comparisons joined by and, or, not, in either meaning of them."""
        match node:
            case ast.Compare(left=left, ops=symbols, comparators=others):
                sides = [self.value(side) for side in (left, *others)]
                links = zip(symbols, sides, sides[1:], strict=False)
                return logic.all_of(*(self.compared(node, logic, *link) for link in links))
            case ast.BoolOp(op=symbol, values=parts):
                join = logic.all_of if isinstance(symbol, ast.And) else logic.any_of
                return join(*(self.logical(part, logic) for part in parts))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return logic.negate(self.logical(operand, logic))
        self.value(node)  # a forbidden piece inside is the better complaint
        place = "A region" if logic is _LEVEL_SET else "The first argument of where"
        raise self.refusal(node, "has no comparison", f"{place} needs a comparison such as x > 0.8")

    def compared(
        self, node: ast.expr, logic: _Logic, symbol: ast.cmpop, left: sympy.Expr, right: sympy.Expr
    ) -> sympy.Expr:
        if type(symbol) in logic.compare:
            return self.checked(node, logic.compare[type(symbol)](left, right))
        if isinstance(symbol, ast.Eq | ast.NotEq):
            raise self.refusal(node, "has no inside", "A region needs < or >, not == or !=", "Write abs(a - b) < width")
        raise self.refusal(node, "is not allowed", self.allowed())

    def refusal(self, node: ast.expr, problem: str, required: str = "", remedy: str = "") -> CaseError:
        piece = ast.get_source_segment(self.text, node) or ast.unparse(node)
        context = "" if piece == self.text else f' in "{_shortened(self.text)}"'
        return CaseError(self.where, f'"{_shortened(piece)}"{context} {problem}', required, remedy)

    def nested_too_deeply(self, levels: int) -> CaseError:
        found = f'"{_shortened(self.text)}" is nested too deeply'
        required = f"At most {levels} levels are allowed"
        return CaseError(self.where, found, required, "Group the terms of a long sum with parentheses")

    def allowed(self) -> str:
        names = ", ".join((*self.variables, *([TIME] if self.timed else []), *self.parameters, "pi"))
        return f"Allowed are numbers, + - * / **, the names {names} and the functions {', '.join(FUNCTIONS)}"


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


@functools.cache
def _symbol(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, real=True)


@functools.lru_cache(maxsize=1024)  # asked for at every time of a problem that changes
def _symbols(tree: sympy.Expr) -> frozenset[sympy.Symbol]:
    return frozenset(tree.free_symbols)


def _depth(tree: sympy.Basic) -> int:
    return 1 + max(map(_depth, tree.args), default=0)


def _tidied(tree: sympy.Expr) -> sympy.Expr:
    """Round numbers longer than a double, and take back SymPy's Abs, whose second derivative is a Dirac delta."""
    fractions = tree.atoms(sympy.Rational)
    long = {number: sympy.Float(float(number)) for number in fractions if max(abs(number.p), number.q) > 2**53}
    return tree.xreplace(long).replace(sympy.Abs, _caller("abs"))


class _Printer(NumPyPrinter):  # type: ignore[misc]  # SymPy has no types
    def _print_Float(self, number: sympy.Float) -> str:  # noqa: N802  # SymPy's naming
        return repr(float(number))  # all 17 digits; SymPy prints 15


@functools.lru_cache(maxsize=256)
def _compiled(trees: tuple[sympy.Expr, ...], variables: tuple[str, ...]) -> Callable[..., list[Any]]:
    """Compile one NumPy function of the coordinates and the time for all trees; what repeats is computed once."""
    # Names of ours: a variable of the user's called `less` would hide a function in the generated code.
    # Real: on complex symbols SymPy's rules for powers differ from those the tree was built with.
    symbols = [sympy.Symbol(f"position_{axis}", real=True) for axis in range(len(variables))]
    symbols.append(sympy.Symbol("time_now", real=True))
    # A coordinate named like the time, in a schedule, comes later and so counts.
    renamed = dict(zip(map(_symbol, (TIME, *variables)), (symbols[-1], *symbols[:-1]), strict=True))
    function: Callable[..., list[Any]] = sympy.lambdify(
        symbols,
        [tree.xreplace(renamed) for tree in trees],
        modules=[{name: function.compute for name, function in FUNCTIONS.items()}, "numpy"],
        printer=_Printer({"fully_qualified_modules": False}),
        cse=_shared,
    )
    return function


def as_code(expressions: Sequence[Expression], names: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Python source of expressions of the same variables, which get new names.

    First what they have in common, as pairs of a name and its code, in an order that works; then the code of each.
    The functions that occur are those of FUNCTIONS and NumPy's comparisons, by their bare names.
    """
    pairs = zip(expressions[0].variables, names, strict=True)
    renamed = {_symbol(old): sympy.Symbol(new, real=True) for old, new in pairs}
    trees = [expression.tree.xreplace(renamed) for expression in expressions]
    shared, results = _shared(trees)
    printer = _Printer({"fully_qualified_modules": False})
    return [(str(name), printer.doprint(tree)) for name, tree in shared], [printer.doprint(tree) for tree in results]


def _shared(trees: Sequence[sympy.Expr]) -> tuple[list[tuple[sympy.Symbol, sympy.Expr]], list[sympy.Expr]]:
    """What several trees have in common, by names of ours, and what is left of each."""
    shared, results = sympy.cse(trees, sympy.numbered_symbols("common_", real=True), list=False)
    return shared, list(results)
