package core

import (
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Field is a member of an author's struct, and a field of the spec.
type Field struct {
	Name, Doc string
	Kind      Kind
	Nullable  bool
	Default   *string
	Width     int // of a vector
	goTime    bool
	offset    uintptr
}

const usable = "bool, int64, int, float64, string, []byte, gristmill.Timestamp, time.Time, [N]float32"

// shape is how the members of a struct hold values: one of each, or a whole column.
type shape struct {
	what string
	// element takes apart the type of a member: what it holds, and whether null is a legal value.
	element func(reflect.Type) (of reflect.Type, nullable, fits bool)
}

var rows = shape{usable + ", or a pointer to one of them where null is legal", func(t reflect.Type) (reflect.Type, bool, bool) {
	if t.Kind() == reflect.Pointer {
		return t.Elem(), true, true
	}
	return t, false, true
}}

var wholeColumns = shape{"a slice of one of " + usable + ", or gristmill.Nullable of one of them", func(t reflect.Type) (reflect.Type, bool, bool) {
	if t.Implements(reflect.TypeFor[nullable]()) && t.Kind() == reflect.Struct && t.Field(0).Name == "Values" {
		return t.Field(0).Type.Elem(), true, true
	}
	if t.Kind() == reflect.Slice && t.Name() == "" {
		return t.Elem(), false, true
	}
	return t, false, false
}}

// fieldsOf looks at a struct, once. What cannot be used is the author's mistake, and is told when the transform is loaded.
func fieldsOf(of reflect.Type, as shape, inputs bool, wrong func(string)) []Field {
	if of.Kind() != reflect.Struct {
		wrong(of.String() + " is no struct; its fields are the columns")
		return nil
	}
	fields, names := []Field{}, map[string]string{}
	for i := range of.NumField() {
		member := of.Field(i)
		at := of.String() + "." + member.Name
		name, named := member.Tag.Lookup("gm")
		if name == "-" {
			continue
		}
		if !named {
			name = snake(member.Name)
		}
		field := Field{Name: name, Doc: member.Tag.Get("doc"), offset: member.Offset}
		if fallback, ok := member.Tag.Lookup("default"); ok {
			field.Default = &fallback
		}
		element, nullable, fits := as.element(member.Type)
		field.Nullable = nullable
		if fits {
			fits = field.holds(element)
		}
		switch {
		case member.Anonymous:
			wrong(at + " is embedded; write its fields out, or tag it `gm:\"-\"`")
		case !member.IsExported():
			wrong(at + " is not exported; begin its name with a capital letter, or tag it `gm:\"-\"`")
		case !fits:
			wrong(at + " is " + member.Type.String() + "; use " + as.what)
		case !isName(name):
			wrong(at + " has the name " + strconv.Quote(name) + "; a name has 1 to 63 ASCII letters, digits and `_`, and begins with no digit")
		case names[name] != "":
			wrong(at + " has the name `" + name + "`, as " + names[name] + " has; tag one of them `gm:\"another_name\"`")
		case field.Kind == Vector && (field.Width < 1 || field.Width > 65_536):
			wrong(at + " has " + strconv.Itoa(field.Width) + " numbers; a vector has 1 to 65,536")
		case field.Default != nil && !inputs:
			wrong(at + " has a default; only inputs have one")
		case field.Default != nil && nullable:
			wrong(at + " has a default, so that it is never null; let its type say so too")
		default:
			names[name] = at
			fields = append(fields, field)
		}
	}
	return fields
}

// holds notes what a type holds; false when it is no kind of column. Types that an author has named hold what their underlying type holds.
func (f *Field) holds(t reflect.Type) bool {
	switch {
	case t == reflect.TypeFor[Timestamp]():
		f.Kind = Time
	case t == reflect.TypeFor[time.Time]():
		f.Kind, f.goTime = Time, true
	case t == reflect.TypeFor[time.Duration]():
		return false
	case t.Kind() == reflect.Bool:
		f.Kind = Boolean
	case t.Kind() == reflect.Int64, t.Kind() == reflect.Int && t.Size() == 8:
		f.Kind = Integer
	case t.Kind() == reflect.Float64:
		f.Kind = Float
	case t.Kind() == reflect.String:
		f.Kind = Text
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		f.Kind = Bytes
	case t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Float32:
		f.Kind, f.Width = Vector, t.Len()
	default:
		return false
	}
	return true
}

func isName(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if digit := '0' <= c && c <= '9'; !letter && (!digit || i == 0) {
			return false
		}
	}
	return 1 <= len(name) && len(name) <= 63
}

// snake makes unit_price of UnitPrice, and order_id of OrderID.
func snake(name string) string {
	var out strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(runes[i-1]) && runes[i-1] != '_' || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			out.WriteByte('_')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}
