package fold

import (
	"encoding"
	"encoding/json"
	"reflect"

	"gristmill/internal/core"
)

func codecOf[S any]() core.Codec[S] {
	switch any(new(S)).(type) {
	case *[]byte:
		return core.Codec[S]{
			Save: func(state *S) ([]byte, error) { return *any(state).(*[]byte), nil },
			Load: func(kept []byte, state *S) error {
				*any(state).(*[]byte) = append([]byte{}, kept...)
				return nil
			},
		}
	case binary:
		return core.Codec[S]{
			Save: func(state *S) ([]byte, error) { return any(state).(binary).MarshalBinary() },
			Load: func(kept []byte, state *S) error {
				return any(state).(binary).UnmarshalBinary(append([]byte{}, kept...))
			},
		}
	}
	codec := core.Codec[S]{
		Save: func(state *S) ([]byte, error) { return json.Marshal(state) },
		Load: func(kept []byte, state *S) error { return json.Unmarshal(kept, state) },
	}
	of := reflect.TypeFor[S]()
	lasts(of, of.String(), map[reflect.Type]bool{}, func(what string) { codec.Mistakes = append(codec.Mistakes, what) })
	return codec
}

type binary interface {
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}

// lasts finds what JSON would drop, or give back as something else: it would be there for the next event of a batch, and not for the next batch.
func lasts(of reflect.Type, at string, seen map[reflect.Type]bool, wrong func(string)) {
	if seen[of] || marshals(of) || marshals(reflect.PointerTo(of)) {
		return
	}
	seen[of] = true
	switch of.Kind() {
	case reflect.Struct:
		for i := range of.NumField() {
			member := of.Field(i)
			name := at + "." + member.Name
			switch {
			case !member.IsExported() && !member.Anonymous:
				wrong(name + " is not exported, so that JSON does not keep it; begin its name with a capital letter")
			case member.Tag.Get("json") == "-":
				wrong(name + " is tagged `json:\"-\"`, so that JSON does not keep it; make it a variable of the function")
			default:
				lasts(member.Type, name, seen, wrong)
			}
		}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		lasts(of.Elem(), at, seen, wrong)
	case reflect.Map:
		lasts(of.Key(), at, seen, wrong)
		lasts(of.Elem(), at, seen, wrong)
	case reflect.Interface, reflect.Func, reflect.Chan, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		wrong(at + " is " + of.String() + ", which JSON does not give back as it was; use a type that says what it holds")
	}
}

func marshals(of reflect.Type) bool {
	return of.Implements(reflect.TypeFor[json.Marshaler]()) || of.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}
