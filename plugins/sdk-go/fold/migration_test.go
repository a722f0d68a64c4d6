package fold_test

import (
	"errors"
	"strings"
	"testing"

	"gristmill/fold"
)

func fromBefore(from string, before []byte) (*state, error) {
	switch {
	case from != "1.0.0":
		return nil, errors.New("version " + from + " is not known here")
	case string(before) == "nil":
		return nil, nil
	case string(before) == "panic":
		panic("asked for it")
	}
	return &state{Seen: int64(len(before))}, nil
}

func TestANewVersionTakesOverStates(t *testing.T) {
	counted := fold.Migrating(spec, fromBefore, count)
	after, err := counted.Migrate("1.0.0", "four", "\xff", "")
	if err != nil {
		t.Fatal(err)
	}
	same(t, after, []string{`{"Seen":4,"Total":0,"Amounts":null}`, `{"Seen":1,"Total":0,"Amounts":null}`, `{"Seen":0,"Total":0,"Amounts":null}`})
	for want, given := range map[string][2]string{
		"version 0.9.0 is not known here": {"0.9.0", "four"},
		"migrated to nil":                 {"1.0.0", "nil"},
		"panic: asked for it":             {"1.0.0", "panic"},
	} {
		if _, err := counted.Migrate(given[0], given[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
	if _, err := fold.Transform(spec, count).Migrate("1.0.0", "four"); err == nil || !strings.Contains(err.Error(), "Migrating") {
		t.Error(err)
	}
	if _, err := fold.Migrating(spec, nil, count).Run(""); err == nil || !strings.Contains(err.Error(), "is nil") {
		t.Error(err)
	}
}
