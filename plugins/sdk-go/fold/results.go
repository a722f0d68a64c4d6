package fold

import "gristmill/internal/core"

// Result is what became of some events, in a test.
type Result[O any] = core.Result[O]

// Row is a row of features, with the index of its event, in a test.
type Row[O any] = core.Row[O]

// Rejected is an event that was refused, in a test.
type Rejected = core.Rejected
