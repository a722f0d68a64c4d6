package core

import (
	"slices"
	"time"
)

// values are the values of a column as authors get them: copies, which stay right when an author keeps them.
type values struct {
	*Column
	texts []string
	blobs [][]byte
	times []time.Time
}

// valuesOf copies what authors may point into. The values that are copied into a struct anyway are left where they are.
func (f *Field) valuesOf(column *Column, rows int, shared bool) values {
	v := values{Column: column}
	if shared {
		private := *column
		private.Bools, private.Ints = slices.Clone(column.Bools), slices.Clone(column.Ints)
		private.Floats, private.Numbers = slices.Clone(column.Floats), slices.Clone(column.Numbers)
		v.Column = &private
	}
	switch {
	case f.Kind == Text:
		whole := string(column.Bytes)
		v.texts = make([]string, rows)
		for row := range v.texts {
			v.texts[row] = whole[column.Offsets[row]:column.Offsets[row+1]]
		}
	case f.Kind == Bytes:
		whole := append([]byte{}, column.Bytes...)
		v.blobs = make([][]byte, rows)
		for row := range v.blobs {
			from, to := column.Offsets[row], column.Offsets[row+1]
			v.blobs[row] = whole[from:to:to] // appending to it does not reach the next value
		}
	case f.goTime:
		v.times = make([]time.Time, rows)
		for row := range v.times {
			v.times[row] = time.UnixMicro(column.Ints[row]).UTC()
		}
	}
	return v
}

// load fills a member of n structs with the values from a row on.
func (f *Field) load(v values, start, n int, to members) {
	switch {
	case f.Kind == Boolean:
		load(f, v, v.Bools, start, n, to)
	case f.goTime:
		load(f, v, v.times, start, n, to)
	case f.Kind == Integer, f.Kind == Time:
		load(f, v, v.Ints, start, n, to)
	case f.Kind == Float:
		load(f, v, v.Floats, start, n, to)
	case f.Kind == Text:
		load(f, v, v.texts, start, n, to)
	case f.Kind == Bytes:
		load(f, v, v.blobs, start, n, to)
	case f.Kind == Vector:
		f.loadVectors(v, start, n, to)
	}
}

func load[T any](f *Field, v values, from []T, start, n int, to members) {
	from = from[start : start+n]
	if !f.Nullable {
		for i := range from {
			*member[T](to, i) = from[i]
		}
		return
	}
	for i := range from {
		if v.isValid(start + i) {
			*member[*T](to, i) = &from[i]
		} else {
			*member[*T](to, i) = nil
		}
	}
}

func (f *Field) loadVectors(v values, start, n int, to members) {
	for i := range n {
		from := v.Numbers[(start+i)*f.Width:][:f.Width]
		switch {
		case !f.Nullable:
			copy(numbers(to, i, f.Width, false), from)
		case v.isValid(start + i):
			setNumbers(to, i, from)
		default:
			setNumbers(to, i, nil)
		}
	}
}

// loadColumn fills a member that is a whole column, with copies.
func (f *Field) loadColumn(v values, rows int, to members) {
	switch {
	case f.Kind == Boolean:
		*member[[]bool](to, 0) = v.Bools
	case f.goTime:
		*member[[]time.Time](to, 0) = v.times
	case f.Kind == Integer, f.Kind == Time:
		*member[[]int64](to, 0) = v.Ints
	case f.Kind == Float:
		*member[[]float64](to, 0) = v.Floats
	case f.Kind == Text:
		*member[[]string](to, 0) = v.texts
	case f.Kind == Bytes:
		*member[[][]byte](to, 0) = v.blobs
	case f.Kind == Vector:
		setFlattened(to, v.Numbers, f.Width)
	}
	if f.Nullable {
		nulls := make([]bool, rows)
		for row := range nulls {
			nulls[row] = !v.isValid(row)
		}
		*nullsOf(to) = nulls
	}
}
