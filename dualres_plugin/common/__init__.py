"""What every room uses and what uses none of them: errors, types, files, images, resizing, drawing."""
