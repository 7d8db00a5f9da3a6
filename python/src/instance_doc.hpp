// instance_doc.hpp: docstrings of objects beside that of their type. Knows nothing of what they say.
#pragma once

#include "common.hpp"

namespace tiaot::binding {

// Gives `type` an attribute __doc__: `of_type` for the type itself, of_object(object) for its objects, which help()
// then shows in place of the whole type. False with an exception set.
bool document_instances(PyTypeObject *type, const char *of_type, PyObject *(*of_object)(PyObject *object));

}  // namespace tiaot::binding
