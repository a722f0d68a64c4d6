package core

import "unsafe"

// members is one member of structs that lie end to end. Its address is taken once for a run of structs, so that a loop over a column needs no reflection;
// that the member has the type that is asked for is what fieldsOf has made sure of.
type members struct {
	first  unsafe.Pointer
	stride uintptr
}

func membersOf[S any](structs []S, offset uintptr) members {
	return members{unsafe.Add(unsafe.Pointer(unsafe.SliceData(structs)), offset), unsafe.Sizeof(*new(S))}
}

// member is the member of the struct with this index.
func member[T any](of members, i int) *T {
	return (*T)(unsafe.Add(of.first, uintptr(i)*of.stride))
}

// numbers is a member that is an array of 32-bit floats, or, behind a pointer, that array.
func numbers(of members, i, width int, pointer bool) []float32 {
	at := member[float32](of, i)
	if pointer {
		at = *member[*float32](of, i)
	}
	if at == nil {
		return nil
	}
	return unsafe.Slice(at, width)
}

// setNumbers points a member to an array of 32-bit floats; no numbers, to nothing.
func setNumbers(of members, i int, numbers []float32) {
	*member[*float32](of, i) = unsafe.SliceData(numbers)
}

// isNil says whether a member that is a pointer points to nothing.
func isNil(of members) bool { return *member[unsafe.Pointer](of, 0) == nil }

func bytesOf[S any]() int { return int(unsafe.Sizeof(*new(S))) }

// flattened is a member, a slice of arrays, as one slice of their numbers.
func flattened(vectors members, width int) []float32 {
	of := member[[]struct{}](vectors, 0)
	if len(*of) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(*of))), len(*of)*width)
}

// setFlattened makes a member, a slice of arrays, of their numbers.
func setFlattened(vectors members, numbers []float32, width int) {
	*member[[]struct{}](vectors, 0) = unsafe.Slice((*struct{})(unsafe.Pointer(unsafe.SliceData(numbers))), len(numbers)/width)
}

// nullsOf is the second slice of a Nullable.
func nullsOf(of members) *[]bool {
	return (*[]bool)(unsafe.Add(of.first, unsafe.Sizeof([]bool{})))
}
