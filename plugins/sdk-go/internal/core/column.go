package core

// Kind is what a column holds, numbered as in the contract.
type Kind uint8

const (
	Boolean Kind = iota
	Integer
	Float
	Text
	Bytes
	Time
	Vector
)

func (k Kind) String() string {
	return [...]string{"boolean", "integer", "float", "text", "bytes", "timestamp", "vector"}[k]
}

// Column is one column of a batch. Its kind says which of the slices hold the values; nulls have a placeholder there.
type Column struct {
	Kind    Kind
	Bools   []bool
	Ints    []int64 // also moments, in microseconds
	Floats  []float64
	Numbers []float32 // vectors, end to end
	Width   int       // of a vector
	Offsets []uint32  // value i of texts and bytes is Bytes[Offsets[i]:Offsets[i+1]]
	Bytes   []byte
	Valid   []byte // bit i is set when row i is not null; nil when none is null
}

// Batch is some events in columns.
type Batch struct {
	Rows    int
	Columns []Column
}

// Rejection is an event that is refused.
type Rejection struct {
	Row    uint32
	Reason string
}

// Output is what becomes of a batch: rows, the events that they come from, and events that are refused. Nil origins: row i comes from event i.
type Output struct {
	Batch
	Origins  []uint32
	Rejected []Rejection
}

func (c *Column) isValid(row int) bool { return c.Valid == nil || c.Valid[row/8]>>(row%8)&1 == 1 }

func (c *Column) bytesAt(row int) []byte { return c.Bytes[c.Offsets[row]:c.Offsets[row+1]] }

// setNulls marks rows as null, once all values are there.
func (c *Column) setNulls(nulls []uint32, rows int) {
	if len(nulls) == 0 {
		return
	}
	c.Valid = make([]byte, (rows+7)/8)
	for row := range rows {
		c.Valid[row/8] |= 1 << (row % 8)
	}
	for _, row := range nulls {
		c.Valid[row/8] &^= 1 << (row % 8)
	}
}
