package gristmill

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unsafe"
)

// The kinds of the contract, in its order.
const (
	kindBoolean = iota
	kindInteger
	kindFloat
	kindText
	kindBytes
	kindTimestamp
	kindVector
)

// field is a member of an author's struct.
type field struct {
	name, doc  string
	kind       int
	nullable   bool
	fallback   *string
	width      int
	offset     uintptr
	whole, one reflect.Type // of the member, and without its pointer
}

func pointer[T any](to *T) unsafe.Pointer { return unsafe.Pointer(to) }

// fieldsOf looks at a struct once. What it cannot use is the author's mistake, and is said when the program starts.
func fieldsOf[T any]() []field {
	shape := reflect.TypeFor[T]()
	if shape.Kind() != reflect.Struct || shape.NumField() == 0 {
		panic(fmt.Sprintf("%v is no struct with fields", shape))
	}
	var fields []field
	for i := range shape.NumField() {
		member := shape.Field(i)
		f := field{name: member.Tag.Get("gm"), doc: member.Tag.Get("doc"), offset: member.Offset, whole: member.Type, one: member.Type}
		if f.name == "" {
			f.name = snake(member.Name)
		}
		if fallback, ok := member.Tag.Lookup("default"); ok {
			f.fallback = &fallback
		}
		if f.one.Kind() == reflect.Pointer {
			f.nullable, f.one = true, f.one.Elem()
		}
		f.kind, f.width = kindOf(f.one)
		if f.kind < 0 || !member.IsExported() {
			panic(fmt.Sprintf("%v.%s: %v is no kind of column; use bool, int64, float64, string, []byte, gristmill.Timestamp, [N]float32, or a pointer to one", shape, member.Name, f.whole))
		}
		fields = append(fields, f)
	}
	return fields
}

func kindOf(t reflect.Type) (kind, width int) {
	switch {
	case t == reflect.TypeFor[Timestamp]():
		return kindTimestamp, 0
	case t.Kind() == reflect.Bool:
		return kindBoolean, 0
	case t.Kind() == reflect.Int64:
		return kindInteger, 0
	case t.Kind() == reflect.Float64:
		return kindFloat, 0
	case t.Kind() == reflect.String:
		return kindText, 0
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return kindBytes, 0
	case t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Float32:
		return kindVector, t.Len()
	}
	return -1, 0
}

// snake makes unit_price of UnitPrice.
func snake(name string) string {
	var out strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			out.WriteByte('_')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}

func hasField(fields []field, name string) bool {
	for _, f := range fields {
		if f.name == name {
			return true
		}
	}
	return false
}
