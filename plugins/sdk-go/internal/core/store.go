package core

import (
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// store appends a member of n structs to a column, and the rows that are null to nulls; from is the row of the first.
func (f *Field) store(c *Column, nulls []uint32, from, n int, of members) []uint32 {
	switch {
	case f.Kind == Boolean:
		c.Bools, nulls = store(f, c.Bools, nulls, from, n, of)
	case f.goTime:
		c.Ints, nulls = storeTimes(f, c.Ints, nulls, from, n, of)
	case f.Kind == Integer, f.Kind == Time:
		c.Ints, nulls = store(f, c.Ints, nulls, from, n, of)
	case f.Kind == Float:
		c.Floats, nulls = store(f, c.Floats, nulls, from, n, of)
	case f.Kind == Text:
		nulls = storeBytes[string](f, c, nulls, from, n, of)
	case f.Kind == Bytes:
		nulls = storeBytes[[]byte](f, c, nulls, from, n, of)
	case f.Kind == Vector:
		c.Numbers = slices.Grow(c.Numbers, n*f.Width)
		for i := range n {
			value := numbers(of, i, f.Width, f.Nullable)
			if value == nil {
				nulls = append(nulls, uint32(from+i))
				c.Numbers = c.Numbers[:len(c.Numbers)+f.Width]
				clear(c.Numbers[len(c.Numbers)-f.Width:])
			}
			c.Numbers = append(c.Numbers, value...)
		}
	}
	return nulls
}

// store is for values that are in a column as they are in a struct.
func store[T any](f *Field, to []T, nulls []uint32, from, n int, of members) ([]T, []uint32) {
	start := len(to)
	to = slices.Grow(to, n)[:start+n]
	into := to[start:]
	if !f.Nullable {
		for i := range into {
			into[i] = *member[T](of, i)
		}
		return to, nulls
	}
	for i := range into {
		if value := *member[*T](of, i); value != nil {
			into[i] = *value
		} else {
			into[i] = *new(T)
			nulls = append(nulls, uint32(from+i))
		}
	}
	return to, nulls
}

// storeBytes is for values of varying length. It looks at them twice, because growing what they go into costs more than that.
func storeBytes[T ~string | ~[]byte](f *Field, c *Column, nulls []uint32, from, n int, of members) []uint32 {
	length := len(c.Bytes)
	start := len(c.Offsets)
	c.Offsets = slices.Grow(c.Offsets, n)[:start+n]
	offsets := c.Offsets[start:]
	for i := range offsets {
		if at := value[T](f, of, i); at != nil {
			length += len(*at)
		} else {
			nulls = append(nulls, uint32(from+i))
		}
		offsets[i] = uint32(length)
	}
	c.Bytes = slices.Grow(c.Bytes, length-len(c.Bytes))
	for i := range n {
		if at := value[T](f, of, i); at != nil {
			c.Bytes = append(c.Bytes, *at...)
		}
	}
	return nulls
}

func storeTimes(f *Field, to []int64, nulls []uint32, from, n int, of members) ([]int64, []uint32) {
	for i := range n {
		if at := value[time.Time](f, of, i); at != nil {
			to = append(to, at.UnixMicro())
		} else {
			to = append(to, 0)
			nulls = append(nulls, uint32(from+i))
		}
	}
	return to, nulls
}

// storeOne is store for a single row, without what pays for itself only in a loop.
func (f *Field) storeOne(c *Column, nulls []uint32, row int, of members) []uint32 {
	if f.Nullable && isNil(of) {
		f.storeNull(c)
		return append(nulls, uint32(row))
	}
	switch {
	case f.Kind == Boolean:
		c.Bools = append(c.Bools, *value[bool](f, of, 0))
	case f.goTime:
		c.Ints = append(c.Ints, value[time.Time](f, of, 0).UnixMicro())
	case f.Kind == Integer, f.Kind == Time:
		c.Ints = append(c.Ints, *value[int64](f, of, 0))
	case f.Kind == Float:
		c.Floats = append(c.Floats, *value[float64](f, of, 0))
	case f.Kind == Text:
		c.Bytes = append(c.Bytes, *value[string](f, of, 0)...)
		c.Offsets = append(c.Offsets, uint32(len(c.Bytes)))
	case f.Kind == Bytes:
		c.Bytes = append(c.Bytes, *value[[]byte](f, of, 0)...)
		c.Offsets = append(c.Offsets, uint32(len(c.Bytes)))
	case f.Kind == Vector:
		c.Numbers = append(c.Numbers, numbers(of, 0, f.Width, f.Nullable)...)
	}
	return nulls
}

func (f *Field) storeNull(c *Column) {
	switch f.Kind {
	case Boolean:
		c.Bools = append(c.Bools, false)
	case Integer, Time:
		c.Ints = append(c.Ints, 0)
	case Float:
		c.Floats = append(c.Floats, 0)
	case Text, Bytes:
		c.Offsets = append(c.Offsets, uint32(len(c.Bytes)))
	case Vector:
		c.Numbers = slices.Grow(c.Numbers, f.Width)[:len(c.Numbers)+f.Width]
		clear(c.Numbers[len(c.Numbers)-f.Width:])
	}
}

// sized has room for this many rows; what varies in length has to grow.
func (f *Field) sized(rows int) Column {
	c := Column{Kind: f.Kind, Width: f.Width}
	switch f.Kind {
	case Boolean:
		c.Bools = make([]bool, 0, rows)
	case Integer, Time:
		c.Ints = make([]int64, 0, rows)
	case Float:
		c.Floats = make([]float64, 0, rows)
	case Text, Bytes:
		c.Offsets = append(make([]uint32, 0, rows+1), 0)
	case Vector:
		c.Numbers = make([]float32, 0, rows*f.Width)
	}
	return c
}

// needsCheck says whether not every value of this type may go into a column.
func (f *Field) needsCheck() bool { return f.Kind == Text || f.goTime }

// check says what is wrong with a value of an author's row; mostly nothing.
func (f *Field) check(of members) string {
	switch {
	case f.Kind == Text:
		if text := value[string](f, of, 0); text != nil && !utf8.ValidString(*text) {
			return f.checkText(*text)
		}
	case f.goTime:
		if at := value[time.Time](f, of, 0); at != nil {
			return f.checkTime(*at)
		}
	}
	return ""
}

// value is where the value of a struct is; nil for a null.
func value[T any](f *Field, of members, i int) *T {
	if f.Nullable {
		return *member[*T](of, i)
	}
	return member[T](of, i)
}

func (f *Field) checkText(text string) string {
	if utf8.ValidString(text) {
		return ""
	}
	return "output `" + f.Name + "` is no UTF-8: " + strconv.QuoteToASCII(text[:min(len(text), 40)]) + "; use []byte for bytes that are no text"
}

func (f *Field) checkTime(at time.Time) string {
	if time.UnixMicro(at.UnixMicro()).Unix() == at.Unix() {
		return ""
	}
	return "output `" + f.Name + "` is in the year " + strconv.Itoa(at.Year()) + ", which microseconds in 64 bits do not reach"
}
