package fold

import "gristmill/internal/core"

// Migrating makes a stateful transform that takes over the states of another version: migrate is given the version that wrote a state, and its bytes. Its
// error refuses the new version. The plugin's world is `migrating-transform`.
func Migrating[S, I, O any](spec Spec, migrate func(from string, state []byte) (*S, error), function func(state *S, event I) (*S, O, error)) *Folds[S, I, O] {
	return core.OneRowFold(spec, codecOf[S](), function).Migrating(migrate)
}

// MigratingMany is the same for a function that returns as many rows as it likes.
func MigratingMany[S, I, O any](spec Spec, migrate func(from string, state []byte) (*S, error), function func(state *S, event I) (*S, []O, error)) *Folds[S, I, O] {
	return core.ManyRowsFold(spec, codecOf[S](), function).Migrating(migrate)
}
