package policy

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"testing"
)

// TestEverythingElse holds every value of everything-else.yaml, with its place,
// against everything-else.out.
func TestEverythingElse(t *testing.T) {
	p := good(t, "testdata/everything-else.yaml")
	p.Sources = nil
	var got bytes.Buffer
	dump(&got, "policy", reflect.ValueOf(p))
	const golden = "testdata/everything-else.out"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, golden, got.String(), string(want))
}

// dump writes a line for each value that is not zero: where it is in the typed
// policy, and what it is; a place as line and column.
func dump(out *bytes.Buffer, path string, v reflect.Value) {
	if v.IsZero() {
		return
	}
	switch value := v.Interface().(type) {
	case Place:
		fmt.Fprintf(out, "%s @%d:%d\n", path, value.Line, value.Column)
		return
	case Address, Ports, Target, ZoneRef, Mark, Protocol:
		fmt.Fprintf(out, "%s %s", path, reflect.TypeOf(value).Name())
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				if at, ok := f.Interface().(Place); ok {
					fmt.Fprintf(out, " @%d:%d", at.Line, at.Column)
				} else {
					fmt.Fprintf(out, " %v", f.Interface())
				}
			}
		}
		fmt.Fprintln(out)
		return
	case netip.Addr, netip.Prefix:
		fmt.Fprintf(out, "%s %v\n", path, value)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		dump(out, path, v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			dump(out, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name := "." + v.Type().Field(i).Name
			if name == ".Place" {
				name = ""
			}
			dump(out, path+name, v.Field(i))
		}
	default:
		fmt.Fprintf(out, "%s %v\n", path, v.Interface())
	}
}
