/* Five whole columns of numbers: what the bench of languages runs in each of them. */
#include "gristmill.h"

#define INPUTS(FIELD)  FIELD(customer, integer) FIELD(price, float) FIELD(quantity, integer)
#define OUTPUTS(FIELD) FIELD(total, float) FIELD(pieces, integer)

GM_COLUMNS(numbers_columns, INPUTS, OUTPUTS, .entity = "customer", .stream = "orders") {
    for (uint32_t row = 0; row < rows; row++) {
        out->total[row] = in->price[row] * (double)in->quantity[row];
        out->pieces[row] = in->quantity[row] + 1;
    }
    return NULL;
}
