package jinja

import (
	"cmp"
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"strings"
)

// norm is an integer in the form in which values have it.
func norm(i *big.Int) Value {
	if i.IsInt64() {
		return int(i.Int64())
	}
	return i
}

// toBig is the integer of an int or bool.
func toBig(v Value) (*big.Int, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return big.NewInt(1), true
		}
		return new(big.Int), true
	case int:
		return big.NewInt(int64(v)), true
	case *big.Int:
		return v, true
	}
	return nil, false
}

// toInt is the value of an int or bool that fits an int.
func toInt(v Value) (int, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case int:
		return v, true
	}
	return 0, false
}

func isInt(v Value) bool {
	_, ok := toBig(v)
	return ok
}

func isNumber(v Value) bool {
	_, ok := v.(float64)
	return ok || isInt(v)
}

func isNegative(v Value) bool {
	switch v := v.(type) {
	case int:
		return v < 0
	case *big.Int:
		return v.Sign() < 0
	case float64:
		return math.Signbit(v) && !math.IsNaN(v)
	}
	return false
}

// toFloat is Python's float() of a number.
func toFloat(v Value) float64 {
	if f, ok := v.(float64); ok {
		return f
	}
	i, ok := toBig(v)
	if !ok {
		raise(typeError, "must be real number, not %s", typeName(v))
	}
	f, _ := new(big.Float).SetInt(i).Float64()
	if math.IsInf(f, 0) {
		raise(overflowError, "int too large to convert to float")
	}
	return f
}

// index is an int that is used as an index or a count.
func index(v Value) int {
	if i, ok := toInt(v); ok {
		return i
	}
	if b, ok := v.(*big.Int); ok {
		raise(overflowError, "%d digits are too many here", len(b.String()))
	}
	if u, ok := v.(*Undefined); ok {
		raise(typeError, "'Undefined' object cannot be interpreted as an integer (%s)", u.name)
	}
	raise(typeError, "'%s' object cannot be interpreted as an integer", typeName(v))
	return 0
}

// floatRepr is Python's repr of a float: the shortest that reads the same.
func floatRepr(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	}
	text := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exponent, _ := strings.Cut(text, "e")
	if exp, _ := strconv.Atoi(exponent); exp < -4 || exp >= 16 {
		return mantissa + "e" + exponent
	}
	text = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// intText is an integer in decimal.
func intText(i *big.Int) string {
	if i.BitLen() > 14285 { // 4300 digits have at most that many bits
		raise(valueError, "exceeds the limit (%d digits) for integer string conversion", maxDigits)
	}
	text := i.String()
	if len(strings.TrimPrefix(text, "-")) > maxDigits {
		raise(valueError, "exceeds the limit (%d digits) for integer string conversion", maxDigits)
	}
	return text
}

// compareNumbers compares exactly, an int with a float too; NaN is unordered.
func compareNumbers(a, b Value) (order int, ordered bool) {
	x, aInt := toBig(a)
	y, bInt := toBig(b)
	switch {
	case aInt && bInt:
		return x.Cmp(y), true
	case aInt:
		order, ordered = compareNumbers(b, a)
		return -order, ordered
	}
	f := a.(float64)
	if math.IsNaN(f) {
		return 0, false
	}
	if bInt {
		if math.IsInf(f, 0) {
			return int(math.Copysign(1, f)), true
		}
		return new(big.Float).SetFloat64(f).Cmp(new(big.Float).SetInt(y)), true
	}
	if g := b.(float64); !math.IsNaN(g) {
		return cmp.Compare(f, g), true
	}
	return 0, false
}

// arithmetic is an operator on two numbers.
func (m *machine) arithmetic(op string, a, b Value) Value {
	x, aInt := toBig(a)
	y, bInt := toBig(b)
	if aInt && bInt {
		return m.integers(op, a, b, x, y)
	}
	return floats(op, toFloat(a), toFloat(b))
}

func (m *machine) integers(op string, a, b Value, x, y *big.Int) Value {
	if v, ok := smallIntegers(op, a, b); ok {
		return v
	}
	m.spend((x.BitLen() + y.BitLen()) / 8)
	z := new(big.Int)
	switch op {
	case "+":
		return norm(z.Add(x, y))
	case "-":
		return norm(z.Sub(x, y))
	case "*":
		m.work(x, y)
		return norm(z.Mul(x, y))
	case "**":
		return m.power(x, y)
	}
	if y.Sign() == 0 {
		raise(zeroDivision, "division by zero")
	}
	m.work(x, y)
	switch op {
	case "/":
		f, _ := new(big.Rat).SetFrac(x, y).Float64()
		if f == 0 && (y.Sign() < 0) != (x.Sign() < 0) { // Python's nothing has a sign, too
			return math.Copysign(0, -1)
		}
		if math.IsInf(f, 0) {
			raise(overflowError, "integer division result too large for a float")
		}
		return f
	case "//":
		return norm(floorDiv(x, y))
	}
	return norm(z.Sub(x, z.Mul(floorDiv(x, y), y)))
}

// work counts what it takes to multiply or divide, before it is done.
func (m *machine) work(x, y *big.Int) {
	m.steps += (x.BitLen()/64 + 1) * (y.BitLen()/64 + 1) / 64
	m.step()
}

// smallIntegers adds, subtracts and multiplies what can not overflow.
func smallIntegers(op string, a, b Value) (Value, bool) {
	x, aSmall := a.(int)
	y, bSmall := b.(int)
	if !aSmall || !bSmall || max(bits.Len(uint(abs(x))), bits.Len(uint(abs(y)))) > 31 {
		return nil, false
	}
	switch op {
	case "+":
		return x + y, true
	case "-":
		return x - y, true
	case "*":
		return x * y, true
	}
	return nil, false
}

func abs(i int) int {
	if i < 0 {
		return -i
	}
	return i
}

func floorDiv(x, y *big.Int) *big.Int {
	q, r := new(big.Int).QuoRem(x, y, new(big.Int))
	if r.Sign() != 0 && r.Sign() != y.Sign() {
		q.Sub(q, big.NewInt(1))
	}
	return q
}

func (m *machine) power(x, y *big.Int) Value {
	if y.Sign() < 0 {
		return floats("**", toFloat(norm(x)), toFloat(norm(y)))
	}
	if x.BitLen() > 1 {
		if !y.IsInt64() || y.Int64() > 8*maxMemory/int64(x.BitLen()) {
			raise(limitError, "a power needs more than %d bytes", maxMemory)
		}
		size := m.product(x.BitLen(), int(y.Int64()))
		m.spend(size / 8)
		m.steps += size / 64 * (size/64 + 1) / 16
		m.step()
	}
	return norm(new(big.Int).Exp(x, y, nil))
}

func floats(op string, a, b float64) Value {
	switch op {
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "**":
		return floatPower(a, b)
	}
	if b == 0 {
		raise(zeroDivision, "float division by zero")
	}
	if op == "/" {
		return a / b
	}
	div, mod := floatDivMod(a, b)
	if op == "//" {
		return div
	}
	return mod
}

func floatPower(a, b float64) Value {
	switch {
	case a == 0 && b < 0:
		raise(zeroDivision, "0.0 cannot be raised to a negative power")
	case a < 0 && b != math.Floor(b) && !math.IsInf(a, 0) && !math.IsInf(b, 0) && !math.IsNaN(b):
		raise(unsupported, "complex numbers")
	}
	f := nearPower(a, b)
	if math.IsInf(f, 0) && !math.IsInf(a, 0) && !math.IsInf(b, 0) {
		raise(overflowError, "numerical result out of range")
	}
	return f
}

// nearPower is the float next to a power, as the C library gives it; math.Pow
// is off by some bits. A float is a whole number over a power of two, so that
// roots and products are enough.
func nearPower(a, b float64) float64 {
	f := math.Pow(a, b)
	fraction, exponent := math.Frexp(b)
	whole := int64(math.Abs(fraction) * (1 << 53))
	roots := 53 - exponent - bits.TrailingZeros64(uint64(whole))
	if f == 0 || f != f || math.IsInf(f, 0) || a == 0 || b == 0 || roots > 64 || exponent > 53 {
		return f
	}
	whole >>= bits.TrailingZeros64(uint64(whole))
	x := new(big.Float).SetPrec(400).SetFloat64(math.Abs(a))
	for range max(roots, 0) {
		x.Sqrt(x)
	}
	power := new(big.Float).SetPrec(400).SetInt64(1)
	for n := whole << max(-roots, 0); n > 0; n >>= 1 {
		if n&1 == 1 {
			power.Mul(power, x)
		}
		x.Mul(x, x)
	}
	if b < 0 {
		power.Quo(new(big.Float).SetInt64(1), power)
	}
	near, _ := power.Float64()
	return math.Copysign(near, f)
}

func floatDivMod(a, b float64) (div, mod float64) {
	mod = math.Mod(a, b)
	div = (a - mod) / b
	if mod == 0 {
		mod = math.Copysign(0, b)
	} else if (b < 0) != (mod < 0) {
		mod += b
		div--
	}
	if div == 0 {
		return math.Copysign(0, a/b), mod
	}
	floor := math.Floor(div)
	if div-floor > 0.5 {
		floor++
	}
	return floor, mod
}
