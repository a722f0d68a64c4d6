package gristmill

import (
	"reflect"
	"unicode/utf8"
	"unsafe"
)

// column is one column of a batch; which of the slices holds its values is a matter of its kind.
type column struct {
	kind     int
	width    int
	booleans []byte
	integers []int64 // and timestamps
	floats   []float64
	numbers  []float32 // of vectors, end to end
	offsets  []uint32
	bytes    []byte
	texts    []string
	valid    []byte // a bitmap; nil when no row is null
}

func (c *column) isValid(row int) bool { return c.valid == nil || c.valid[row/8]>>(row%8)&1 == 1 }

func (c *column) bytesAt(row int) []byte { return c.bytes[c.offsets[row]:c.offsets[row+1]] }

func (c *column) setNull(row, rows int) {
	for len(c.valid) < (rows+7)/8 {
		c.valid = append(c.valid, 0xff)
	}
	c.valid[row/8] &^= 1 << (row % 8)
}

// cut makes a string of each text: one copy for the whole column, which the strings share.
func (c *column) cut(rows int) {
	whole := string(c.bytes)
	c.texts = make([]string, rows)
	for row := range c.texts {
		c.texts[row] = whole[c.offsets[row]:c.offsets[row+1]]
	}
}

// at is where the value of a row lies.
func (c *column) at(row int) unsafe.Pointer {
	switch c.kind {
	case kindBoolean:
		return unsafe.Pointer(&c.booleans[row])
	case kindInteger, kindTimestamp:
		return unsafe.Pointer(&c.integers[row])
	case kindFloat:
		return unsafe.Pointer(&c.floats[row])
	case kindText:
		return unsafe.Pointer(&c.texts[row])
	case kindVector:
		return unsafe.Pointer(&c.numbers[row*c.width])
	default:
		value := append([]byte(nil), c.bytesAt(row)...)
		return unsafe.Pointer(&value)
	}
}

// load fills an author's struct with an event.
func load(fields []field, in []column, row int, into unsafe.Pointer) {
	for i := range fields {
		f, c := &fields[i], &in[i]
		to := unsafe.Add(into, f.offset)
		if f.nullable {
			if !c.isValid(row) {
				*(*unsafe.Pointer)(to) = nil
				continue
			}
			// Into the batch itself, whatever the author does with it; the batch is the call's own.
			*(*unsafe.Pointer)(to) = c.at(row)
			continue
		}
		switch f.kind {
		case kindBoolean:
			*(*bool)(to) = c.booleans[row] == 1
		case kindInteger, kindTimestamp:
			*(*int64)(to) = c.integers[row]
		case kindFloat:
			*(*float64)(to) = c.floats[row]
		case kindText:
			*(*string)(to) = c.texts[row]
		case kindBytes:
			*(*[]byte)(to) = append([]byte(nil), c.bytesAt(row)...)
		case kindVector:
			copy(unsafe.Slice((*float32)(to), f.width), c.numbers[row*f.width:])
		}
	}
}

type refused struct {
	row    uint32
	reason string
}

// sink collects rows, where they come from, and events that are refused.
type sink struct {
	fields  []field
	columns []column
	origins []uint32
	refused []refused
	row     uint32
	rows    int
}

func newSink(fields []field, rows int) *sink {
	s := &sink{fields: fields, columns: make([]column, len(fields)), origins: make([]uint32, 0, rows)}
	for i, f := range fields {
		s.columns[i] = column{kind: f.kind, width: f.width}
		if f.kind == kindText || f.kind == kindBytes {
			s.columns[i].offsets = append(make([]uint32, 0, rows+1), 0)
		}
	}
	return s
}

// add appends an author's row.
func (s *sink) add(from unsafe.Pointer) {
	for i := range s.fields {
		f, c := &s.fields[i], &s.columns[i]
		value := unsafe.Add(from, f.offset)
		null := false
		if f.nullable {
			value = *(*unsafe.Pointer)(value)
			if null = value == nil; null {
				c.setNull(s.rows, s.rows+1)
				value = reflect.New(f.one).UnsafePointer()
			}
		}
		if c.valid != nil && s.rows%8 == 0 && len(c.valid) <= s.rows/8 {
			c.valid = append(c.valid, 0xff)
		}
		switch f.kind {
		case kindBoolean:
			c.booleans = append(c.booleans, *(*byte)(value))
		case kindInteger, kindTimestamp:
			c.integers = append(c.integers, *(*int64)(value))
		case kindFloat:
			c.floats = append(c.floats, *(*float64)(value))
		case kindText:
			c.bytes = append(c.bytes, *(*string)(value)...)
			c.offsets = append(c.offsets, uint32(len(c.bytes)))
		case kindBytes:
			c.bytes = append(c.bytes, *(*[]byte)(value)...)
			c.offsets = append(c.offsets, uint32(len(c.bytes)))
		case kindVector:
			c.numbers = append(c.numbers, unsafe.Slice((*float32)(value), f.width)...)
		}
		if f.kind == kindText && !null && !utf8.ValidString(*(*string)(value)) {
			panic("output `" + f.name + "` is no UTF-8")
		}
	}
	s.origins = append(s.origins, s.row)
	s.rows++
}

// settle ends an event: one that is refused leaves no rows. Says whether it was.
func (s *sink) settle(before int, err error) bool {
	if err == nil || err == Skip || err == End {
		return false
	}
	s.truncate(before)
	s.refused = append(s.refused, refused{s.row, err.Error()})
	return true
}

// truncate takes back what was added for an event, a row that a panic has cut short included.
func (s *sink) truncate(rows int) {
	s.rows, s.origins = rows, s.origins[:rows]
	for i, f := range s.fields {
		c := &s.columns[i]
		switch f.kind {
		case kindBoolean:
			c.booleans = c.booleans[:rows]
		case kindInteger, kindTimestamp:
			c.integers = c.integers[:rows]
		case kindFloat:
			c.floats = c.floats[:rows]
		case kindText, kindBytes:
			c.offsets = c.offsets[:rows+1]
			c.bytes = c.bytes[:c.offsets[rows]]
		case kindVector:
			c.numbers = c.numbers[:rows*f.width]
		}
		if c.valid != nil {
			c.valid = c.valid[:(rows+7)/8]
			// Rows to come are valid until they say otherwise.
			if rows%8 != 0 {
				c.valid[rows/8] |= 0xff << (rows % 8)
			}
		}
	}
}
