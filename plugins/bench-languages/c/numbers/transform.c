/* Five columns of numbers, row by row: what the bench of languages runs in each of them. */
#include "gristmill.h"

#define INPUTS(FIELD)  FIELD(customer, integer) FIELD(price, float) FIELD(quantity, integer)
#define OUTPUTS(FIELD) FIELD(total, float) FIELD(pieces, integer)

GM_ROWS(numbers, INPUTS, OUTPUTS, .entity = "customer", .stream = "orders") {
    out->total = in->price * (double)in->quantity;
    out->pieces = in->quantity + 1;
    return GM_ROW;
}
